//! Where a request comes from (docs/design/security.md#rule-22).

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// Hops of a forwarded chain that are read.
const MAX_HOPS: usize = 32;

/// A request's address: as API Gateway saw it, and as proxies in between say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientAddress {
    /// `requestContext.http.sourceIp`
    pub source: Option<IpAddr>,
    /// `X-Forwarded-For`, the nearest hop last; `None` for what is no address.
    pub forwarded: Vec<Option<IpAddr>>,
}

impl ClientAddress {
    /// An address with the chain that `X-Forwarded-For` tells of.
    pub fn new(source: Option<IpAddr>, forwarded_for: Option<&str>) -> Self {
        let hops = forwarded_for.map(|chain| chain.split(',').map(|hop| address(hop.trim())));
        let mut forwarded: Vec<_> = hops.into_iter().flatten().collect();
        let excess = forwarded.len().saturating_sub(MAX_HOPS);
        forwarded.drain(..excess);
        Self { source, forwarded }
    }

    /// The client's address: the nearest one that is no trusted proxy. What a proxy that is not
    /// trusted says counts for nothing; where a trusted one's word is no address, the client is
    /// unknown.
    pub fn client(&self, trusted: &[IpNet]) -> Option<IpAddr> {
        let is_trusted = |ip: IpAddr| trusted.iter().any(|net| net.contains(&ip));
        let source = self.source?.to_canonical();
        if !is_trusted(source) {
            return Some(source);
        }
        for hop in self.forwarded.iter().rev() {
            match hop.map(|ip| ip.to_canonical()) {
                Some(ip) if is_trusted(ip) => {}
                other => return other,
            }
        }
        Some(source)
    }
}

/// An address, with a port behind it or without: proxies write both.
fn address(hop: &str) -> Option<IpAddr> {
    hop.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(source: &str, chain: Option<&str>, trusted: &[&str]) -> Option<String> {
        let trusted: Vec<_> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        ClientAddress::new(source.parse().ok(), chain).client(&trusted).map(|ip| ip.to_string())
    }

    // docs/design/security.md#rule-22
    #[test]
    fn only_trusted_proxies_are_believed() {
        let proxies = ["10.0.0.0/8", "2001:db8:1::/48"];
        for (source, chain, told) in [
            ("192.0.2.1", Some("198.51.100.7"), Some("192.0.2.1")),
            ("10.0.0.1", None, Some("10.0.0.1")),
            ("10.0.0.1", Some("198.51.100.7, 10.0.0.1"), Some("198.51.100.7")),
            ("10.0.0.1", Some("1.1.1.1, 198.51.100.7, 10.9.9.9, 10.0.0.1"), Some("198.51.100.7")),
            ("2001:db8:1::5", Some("::ffff:198.51.100.7"), Some("198.51.100.7")),
            ("::ffff:10.0.0.1", Some("198.51.100.7"), Some("198.51.100.7")),
            ("10.0.0.1", Some("198.51.100.7:4711, [2001:db8:1::9]:443"), Some("198.51.100.7")),
            ("10.0.0.1", Some("198.51.100.7, unknown"), None),
            ("", Some("198.51.100.7"), None),
        ] {
            assert_eq!(client(source, chain, &proxies).as_deref(), told, "{source} {chain:?}");
        }
        assert_eq!(client("10.0.0.1", Some("198.51.100.7"), &[]).unwrap(), "10.0.0.1");
    }

    proptest! {
        #[test]
        fn no_header_moves_an_untrusted_source(chain in "\\PC{0,80}|([0-9.]{7,15},? ?){0,40}") {
            prop_assert_eq!(client("192.0.2.1", Some(&chain), &["10.0.0.0/8"]).unwrap(), "192.0.2.1");
        }
    }
}
