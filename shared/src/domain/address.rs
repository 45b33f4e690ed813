//! The client address of a request (docs/design/security.md#rule-22).

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// Maximum number of `X-Forwarded-For` entries that are read.
const MAX_HOPS: usize = 32;

/// The address of a request, from API Gateway and from the proxies in front of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientAddress {
    /// `requestContext.http.sourceIp`
    pub source: Option<IpAddr>,
    /// `X-Forwarded-For`, nearest proxy last. An entry that is not an IP address is `None`.
    pub forwarded: Vec<Option<IpAddr>>,
}

impl ClientAddress {
    /// Parses the `X-Forwarded-For` header.
    pub fn new(source: Option<IpAddr>, forwarded_for: Option<&str>) -> Self {
        let hops = forwarded_for.map(|chain| chain.split(',').map(|hop| address(hop.trim())));
        let mut forwarded: Vec<_> = hops.into_iter().flatten().collect();
        let excess = forwarded.len().saturating_sub(MAX_HOPS);
        forwarded.drain(..excess);
        Self { source, forwarded }
    }

    /// Returns the client's address: the nearest address that is not a trusted proxy.
    ///
    /// Entries from an untrusted proxy are ignored. The result is `None` if a trusted proxy forwarded an
    /// entry that is not an IP address.
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

/// Parses an address with or without a port, because proxies write both.
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
    fn forwarded_address_is_used_only_from_trusted_proxies() {
        let proxies = ["10.0.0.0/8", "2001:db8:1::/48"];
        for (source, chain, expected) in [
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
            assert_eq!(client(source, chain, &proxies).as_deref(), expected, "{source} {chain:?}");
        }
        assert_eq!(client("10.0.0.1", Some("198.51.100.7"), &[]).unwrap(), "10.0.0.1");
    }

    proptest! {
        #[test]
        fn header_from_untrusted_source_is_ignored(chain in "\\PC{0,80}|([0-9.]{7,15},? ?){0,40}") {
            prop_assert_eq!(client("192.0.2.1", Some(&chain), &["10.0.0.0/8"]).unwrap(), "192.0.2.1");
        }
    }
}
