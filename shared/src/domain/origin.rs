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
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_spelling_of_browsers_is_accepted() {
        for good in [
            "https://app.example.com",
            "https://app.example.com:8443",
            "https://xn--bcher-kva.example",
            "https://192.0.2.1",
            "https://[2001:db8::1]:444",
            "http://localhost",
            "http://localhost:3000",
            "http://127.0.0.1:5173",
        ] {
            assert_eq!(WebOrigin::parse(good).map(String::from), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "*",
            "null",
            "https://*.example.com",
            "https://app.example.com/",
            "https://app.example.com/path",
            "https://app.example.com?x",
            "https://app.example.com#x",
            "https://app.example.com:443",
            "https://App.example.com",
            "HTTPS://app.example.com",
            " https://app.example.com",
            "https://bücher.example",
            "https://user@app.example.com",
            "https://",
            "http://app.example.com",
            "http://localhost.example.com",
            "http://127.0.0.2",
            "http://[::1]",
            "app.example.com",
            "file:///etc",
            "chrome-extension://abcdef",
            "javascript:alert(1)",
        ] {
            assert!(WebOrigin::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn accepted_origin_is_unchanged(text in "https?://[a-zA-Z0-9.:/@%_-]{1,40}|\\PC{0,60}") {
            if let Ok(origin) = WebOrigin::parse(&text) {
                prop_assert_eq!(origin.as_str(), &text);
                prop_assert!(!text.bytes().any(|byte| byte.is_ascii_control() || byte == b' '));
            }
        }
    }
}
