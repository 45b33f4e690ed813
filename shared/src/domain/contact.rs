//! Where a user is reached, and in which language: told by an operator, who has verified it.

use super::Invalid;

/// Bytes of a mail address (RFC 5321, section 4.5.3.1.3).
const MAX_MAIL_BYTES: usize = 254;
/// Bytes of its part before the `@` (RFC 5321, section 4.5.3.1.1).
const MAX_LOCAL_BYTES: usize = 64;
/// Digits of a telephone number (E.164, section 6.1).
const MAX_DIGITS: usize = 15;
/// Bytes of a language tag (RFC 5646, section 4.4.1).
const LANGUAGE_BYTES: std::ops::RangeInclusive<usize> = 2..=35;

/// A mail address that one mail can be sent to: no name beside it, no list, no quoted form.
///
/// # Errors
/// [`Invalid`] when it is none.
pub fn mail_address(text: &str) -> Result<String, Invalid> {
    let invalid = Invalid::new("must be a mail address such as name@example.com");
    let is_part = |part: &str| {
        let refused =
            |letter: char| letter.is_control() || letter.is_whitespace() || r#"()<>[]:;,\""#.contains(letter);
        !part.is_empty() && !part.starts_with('.') && !part.ends_with('.') && !part.contains(refused)
    };
    let (local, domain) = text.split_once('@').ok_or(invalid)?;
    let fits = text.len() <= MAX_MAIL_BYTES && local.len() <= MAX_LOCAL_BYTES;
    if fits && is_part(local) && is_part(domain) && !domain.contains('@') {
        Ok(text.to_owned())
    } else {
        Err(invalid)
    }
}

/// A telephone number in E.164.
///
/// # Errors
/// [`Invalid`] when it is none.
pub fn phone_number(text: &str) -> Result<String, Invalid> {
    let digits = text.strip_prefix('+').unwrap_or_default();
    let fits = (2..=MAX_DIGITS).contains(&digits.len()) && !digits.starts_with('0');
    if fits && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(text.to_owned())
    } else {
        Err(Invalid::new("must be a telephone number in E.164, such as +4512345678"))
    }
}

/// A language tag (BCP 47), as far as its form goes.
///
/// # Errors
/// [`Invalid`] when it is none.
pub fn language(text: &str) -> Result<String, Invalid> {
    let is_part =
        |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if LANGUAGE_BYTES.contains(&text.len()) && text.split('-').all(is_part) {
        Ok(text.to_owned())
    } else {
        Err(Invalid::new("must be a language tag such as en or pt-BR (BCP 47)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_message_could_be_sent_to_is_refused() {
        for good in ["a@b", "marcus.jensen+bank@example.com", "jürgen@bücher.example", "o'neill@example.com"]
        {
            assert_eq!(mail_address(good).unwrap(), good);
        }
        let long = format!("{}@example.com", "x".repeat(65));
        for bad in [
            "",
            "a",
            "@b",
            "a@",
            "a@b@c",
            "a b@c",
            "A <a@b>",
            "a@b,c@d",
            "a@b\r\nBcc: c@d",
            ".a@b",
            "a@b.",
            &long,
        ] {
            assert!(mail_address(bad).is_err(), "{bad}");
        }
        assert!(phone_number("+4512345678").is_ok() && phone_number("+123456789012345").is_ok());
        for bad in
            ["", "+", "+1", "4512345678", "+045123456", "+1234567890123456", "+45 12345678", "+45a2345678"]
        {
            assert!(phone_number(bad).is_err(), "{bad}");
        }
        assert!(language("pt-BR").is_ok());
        for bad in ["", "e", "English!", "de_DE", "-", "en-", "verylongtag"] {
            assert!(language(bad).is_err(), "{bad}");
        }
    }
}
