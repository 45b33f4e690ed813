//! Is the port free, and what to say when it is not.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::problem::{EXIT_USAGE, Problem};

/// Loopback answers at once or not at all.
const CONNECT_WITHIN: Duration = Duration::from_millis(200);

/// Checks that nothing listens on the port, and returns it. 0 finds a free one. `option` is how the
/// person chooses another.
///
/// Nothing is reserved: call it before long work, to fail early, and again before the port is
/// used.
///
/// # Errors
/// A [`Problem`] with [`EXIT_USAGE`] when the port is taken or may not be used.
pub fn check(port: u16, option: &str) -> Result<u16> {
    // macOS lets one bind 127.0.0.1 although somebody else has the wildcard address.
    if port != 0 && is_answered(port) {
        return Err(in_use(port, option).into());
    }
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(listener) => Ok(listener.local_addr()?.port()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(in_use(port, option).into()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(Problem::new(
            format!("Port {port} may not be used: {error}."),
            format!("Choose a port above 1023, for example: cargo dev {option} 9001"),
        )
        .with_exit_code(EXIT_USAGE)
        .into()),
        Err(error) => Err(error).with_context(|| format!("cannot use port {port} on 127.0.0.1")),
    }
}

/// Whether something on loopback accepts connections on that port.
#[must_use]
pub fn is_answered(port: u16) -> bool {
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into();
    TcpStream::connect_timeout(&address, CONNECT_WITHIN).is_ok()
}

fn in_use(port: u16, option: &str) -> Problem {
    let other = if port == u16::MAX { port - 1 } else { port + 1 };
    Problem::new(
        format!("Port {port} is already in use on this machine."),
        format!(
            "Stop what listens there, or choose another port: cargo dev {option} {other}\n  \
             If it is another `cargo dev`, this one needs its own data too: \
             cargo dev {option} {other} --memory"
        ),
    )
    .with_exit_code(EXIT_USAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_port_is_named_with_the_way_out() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = check(port, "--port").unwrap_err();
        let problem = error.downcast_ref::<Problem>().unwrap();
        assert_eq!(problem.exit_code(), EXIT_USAGE);
        assert!(problem.to_string().contains(&port.to_string()));
        assert!(problem.hint().contains("cargo dev --port "));
        let error = check(port, "--mailbox-port").unwrap_err();
        assert!(error.downcast_ref::<Problem>().unwrap().hint().contains("cargo dev --mailbox-port "));
    }

    #[test]
    fn a_listener_on_all_interfaces_counts() {
        let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(check(port, "--port").is_err());
    }

    #[test]
    fn zero_finds_a_port() {
        assert_ne!(check(0, "--port").unwrap(), 0);
    }
}
