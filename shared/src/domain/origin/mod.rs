//! The origin of a web page, as browsers send it in the `Origin` header (RFC 6454).

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::id::{Invalid, text_conversions};

/// A web origin: `https://host` or `https://host:port`, exactly as browsers write it. `http` is allowed
/// only for `localhost` and `127.0.0.1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WebOrigin(String);

impl WebOrigin {
    /// Maximum length in bytes. A host name has at most 253 (RFC 1035, section 2.3.4).
    const MAX_BYTES: usize = 300;

    /// Parses an origin in the spelling that browsers use.
    ///
    /// # Errors
    /// [`Invalid`] if the text has a path, a user name, a default port or an upper-case letter.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let invalid = Invalid::new(
            "must be an origin such as https://app.example.com or https://app.example.com:8443, in lower \
             case, without a path; http only for localhost and 127.0.0.1",
        );
        if text.len() > Self::MAX_BYTES {
            return Err(invalid);
        }
        let url = Url::parse(text).map_err(|_| invalid)?;
        let is_secure = match url.scheme() {
            "https" => true,
            "http" => match url.host() {
                Some(Host::Domain(name)) => name == "localhost",
                Some(Host::Ipv4(ip)) => ip.octets() == [127, 0, 0, 1],
                _ => false,
            },
            _ => false,
        };
        // Wildcards such as `https://*.example.com` are not supported.
        let is_plain = url.host_str().is_some_and(|host| {
            host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
        });
        // Browsers send each origin in one spelling, so that string comparison is sufficient.
        if is_secure && is_plain && url.origin().ascii_serialization() == text {
            Ok(Self(text.to_owned()))
        } else {
            Err(invalid)
        }
    }

    /// The origin as browsers send it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

text_conversions!(WebOrigin);

#[cfg(test)]
mod tests;
