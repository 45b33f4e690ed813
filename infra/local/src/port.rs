//! Checks that a port is free, and reports what to do if it is taken.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::problem::{EXIT_USAGE, Problem};

/// A loopback connection succeeds or fails at once.
const CONNECT_WITHIN: Duration = Duration::from_millis(200);

/// Checks that no program listens on the port, and returns the port. For 0, returns a free port.
/// `option` is the command-line option that chooses another port.
///
/// The port is not reserved. Call this function before slow work, to fail early, and again before
/// the port is used.
///
/// # Errors
/// A [`Problem`] with [`EXIT_USAGE`] when the port is taken or not permitted.
pub fn check(port: u16, option: &str) -> Result<u16> {
    // On macOS, binding 127.0.0.1 succeeds although another program listens on all addresses.
    if port != 0 && is_answered(port) {
        return Err(in_use(port, option).into());
    }
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(listener) => Ok(listener.local_addr()?.port()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(in_use(port, option).into()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(Problem::new(
            format!("Port {port} is not permitted: {error}."),
            format!("Choose a port above 1023, for example: cargo dev {option} 9001"),
        )
        .with_exit_code(EXIT_USAGE)
        .into()),
        Err(error) => Err(error).with_context(|| format!("cannot use port {port} on 127.0.0.1")),
    }
}

/// Checks whether a program on loopback accepts connections on the port.
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
            "Stop the program that uses it, or choose another port: cargo dev {option} {other}\n  \
             If that program is another `cargo dev`, this one also needs its own data: \
             cargo dev {option} {other} --memory"
        ),
    )
    .with_exit_code(EXIT_USAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_port_is_reported_with_a_command_that_works() {
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
    fn listener_on_all_addresses_takes_the_port() {
        let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(check(port, "--port").is_err());
    }

    #[test]
    fn port_zero_returns_a_free_port() {
        assert_ne!(check(0, "--port").unwrap(), 0);
    }
}
