//! Contact data of a user: mail address, phone number and language. Operators supply verified values.

use super::Invalid;

/// Maximum length of a mail address in bytes (RFC 5321, section 4.5.3.1.3).
const MAX_MAIL_BYTES: usize = 254;
/// Maximum length of the part before the `@` in bytes (RFC 5321, section 4.5.3.1.1).
const MAX_LOCAL_BYTES: usize = 64;
/// Maximum number of digits in a phone number (E.164, section 6.1).
const MAX_DIGITS: usize = 15;
/// Allowed length of a language tag in bytes (RFC 5646, section 4.4.1).
const LANGUAGE_BYTES: std::ops::RangeInclusive<usize> = 2..=35;

/// Parses one mail address. Display names, address lists and quoted local parts are rejected.
///
/// # Errors
/// [`Invalid`] if the text is not a mail address.
pub fn mail_address(text: &str) -> Result<String, Invalid> {
    let invalid = Invalid::new("must be a mail address such as name@example.com");
    let is_part = |part: &str| {
        let is_forbidden =
            |letter: char| letter.is_control() || letter.is_whitespace() || r#"()<>[]:;,\""#.contains(letter);
        !part.is_empty() && !part.starts_with('.') && !part.ends_with('.') && !part.contains(is_forbidden)
    };
    let (local, domain) = text.split_once('@').ok_or(invalid)?;
    let fits = text.len() <= MAX_MAIL_BYTES && local.len() <= MAX_LOCAL_BYTES;
    if fits && is_part(local) && is_part(domain) && !domain.contains('@') {
        Ok(text.to_owned())
    } else {
        Err(invalid)
    }
}

/// Parses a phone number in E.164 format.
///
/// # Errors
/// [`Invalid`] if the text is not an E.164 number.
pub fn phone_number(text: &str) -> Result<String, Invalid> {
    let digits = text.strip_prefix('+').unwrap_or_default();
    let fits = (2..=MAX_DIGITS).contains(&digits.len()) && !digits.starts_with('0');
    if fits && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(text.to_owned())
    } else {
        Err(Invalid::new("must be a phone number in E.164 format, such as +4512345678"))
    }
}

/// Checks the syntax of a language tag (BCP 47).
///
/// # Errors
/// [`Invalid`] if the text is not a language tag.
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
    fn invalid_contact_data_is_rejected() {
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
