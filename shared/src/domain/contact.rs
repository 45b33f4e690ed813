//! Contact data of a user: mail address, phone number and language. Operators supply verified values.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Invalid, visible};

/// Maximum length of a mail address in bytes (RFC 5321, section 4.5.3.1.3).
const MAX_MAIL_BYTES: usize = 254;
/// Maximum length of the part before the `@` in bytes (RFC 5321, section 4.5.3.1.1).
const MAX_LOCAL_BYTES: usize = 64;
/// Maximum number of digits in a phone number (E.164, section 6.1).
const MAX_DIGITS: usize = 15;
/// Maximum bytes of one encoded word, which has at most 75 characters (RFC 2047, section 2).
const MAX_ENCODED_BYTES: usize = 45;
/// Characters that a name can contain only in quotes (RFC 5322, section 3.2.3). A dot is allowed without quotes.
const SPECIALS: [char; 12] = ['(', ')', '<', '>', '[', ']', ':', ';', '@', '\\', ',', '"'];
/// Allowed length of a language tag in bytes (RFC 5646, section 4.4.1).
const LANGUAGE_BYTES: std::ops::RangeInclusive<usize> = 2..=35;

/// Parses one mail address and returns it with its domain in ASCII (IDNA). Display names, address lists and quoted
/// local parts are rejected.
///
/// # Errors
/// [`Invalid`] if the text is not a mail address, or if SES cannot send to it because its local part is not ASCII.
pub fn mail_address(text: &str) -> Result<String, Invalid> {
    let invalid = Invalid::new("must be a mail address such as name@example.com");
    if let Some(rule) = visible::broken_rule(text) {
        return Err(Invalid::new(rule));
    }
    let is_part = |part: &str| {
        let is_forbidden =
            |letter: char| letter.is_control() || letter.is_whitespace() || r#"()<>[]:;,\""#.contains(letter);
        part.split('.').all(|label| !label.is_empty() && !label.contains(is_forbidden))
    };
    let (local, domain) = text.split_once('@').ok_or(invalid)?;
    if text.len() > MAX_MAIL_BYTES || local.len() > MAX_LOCAL_BYTES || !is_part(local) || !is_part(domain) {
        return Err(invalid);
    }
    if !local.is_ascii() {
        return Err(Invalid::new("must have only ASCII characters before the @, because SES rejects others"));
    }
    let domain = idna::domain_to_ascii_strict(domain).map_err(|_| invalid)?;
    let address = format!("{local}@{domain}");
    if address.len() <= MAX_MAIL_BYTES { Ok(address) } else { Err(invalid) }
}

/// A sender of mails: an address, or a display name and an address in `<>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    name: String,
    address: String,
}

impl Mailbox {
    /// Parses exactly one mailbox (RFC 5322, section 3.4).
    ///
    /// # Errors
    /// [`Invalid`] if the text is not one mailbox, or if its address is invalid.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let invalid = Invalid::new(
            "must be one mail address, or a name followed by one mail address in <>; put a name with special characters in quotes",
        );
        let Some(inner) = text.strip_suffix('>') else {
            let address = mail_address(text).map_err(|_| invalid)?;
            return Ok(Self { name: String::new(), address });
        };
        let (name, address) = inner.rsplit_once('<').ok_or(invalid)?;
        let name = name.trim();
        let name = match name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(quoted) => unquoted(quoted).ok_or(invalid)?,
            None if name.contains(SPECIALS) => return Err(invalid),
            None => name.to_owned(),
        };
        if name.contains(char::is_control) || visible::broken_rule(&name).is_some() {
            return Err(invalid);
        }
        Ok(Self { name, address: mail_address(address)? })
    }

    /// Returns the value of a `From` header, in ASCII. A name outside ASCII is encoded (RFC 2047).
    pub fn header(&self) -> String {
        let Self { name, address } = self;
        if name.is_empty() {
            return address.clone();
        }
        if name.is_ascii() {
            let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
            let phrase = if name.contains(SPECIALS) { format!("\"{quoted}\"") } else { quoted };
            return format!("{phrase} <{address}>");
        }
        let mut words: Vec<String> = vec![String::new()];
        for letter in name.chars() {
            match words.last_mut() {
                Some(word) if word.len() + letter.len_utf8() <= MAX_ENCODED_BYTES => word.push(letter),
                _ => words.push(letter.to_string()),
            }
        }
        let encoded: Vec<_> =
            words.iter().map(|word| format!("=?UTF-8?B?{}?=", STANDARD.encode(word))).collect();
        format!("{} <{address}>", encoded.join(" "))
    }
}

/// Removes the backslashes of a quoted string. Returns `None` if a quote is not escaped.
fn unquoted(text: &str) -> Option<String> {
    let (mut plain, mut letters) = (String::new(), text.chars());
    while let Some(letter) = letters.next() {
        match letter {
            '"' => return None,
            '\\' => plain.push(letters.next()?),
            other => plain.push(other),
        }
    }
    Some(plain)
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
        for good in ["a@b", "marcus.jensen+bank@example.com", "o'neill@example.com"] {
            assert_eq!(mail_address(good).unwrap(), good);
        }
        assert_eq!(mail_address("ida@bücher.example").unwrap(), "ida@xn--bcher-kva.example");
        assert!(mail_address("jörg@example.com").unwrap_err().to_string().contains("only ASCII"));
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
            "a..b@c",
            "a@b..c",
            "a@b_c",
            "a\u{200b}@b",
            "a@b ",
            "ida@b\u{ad}cher.example",
            &long,
        ] {
            assert!(mail_address(bad).is_err(), "{bad}");
        }
        for (text, header) in [
            ("no-reply@example.com", "no-reply@example.com"),
            ("Acme <a@example.com>", "Acme <a@example.com>"),
            ("Acme Inc. <a@bücher.example>", "Acme Inc. <a@xn--bcher-kva.example>"),
            ("\"Acme, \\\"Inc.\\\"\" <a@b>", "\"Acme, \\\"Inc.\\\"\" <a@b>"),
            ("Büro Müller <no-reply@example.com>", "=?UTF-8?B?QsO8cm8gTcO8bGxlcg==?= <no-reply@example.com>"),
        ] {
            assert_eq!(Mailbox::parse(text).unwrap().header(), header);
        }
        let long = format!("{} <a@b>", "ü".repeat(60));
        let header = Mailbox::parse(&long).unwrap().header();
        assert!(header.split(' ').all(|word| word.len() <= 75) && header.split(' ').count() == 4, "{header}");
        for bad in [
            "",
            "Acme",
            "<>",
            "Acme <>",
            "a@b, c@d",
            "A <a@b>, C <c@d>",
            "A <a@b> <c@d>",
            "A, B <a@b>",
            "\"A <a@b>",
            "\"A\" B\" <a@b>",
            "A\r\nBcc: x <a@b>",
            "A\u{202e} <a@b>",
            "jörg@example.com",
            "A <jörg@example.com>",
            "A <a@b> ",
        ] {
            assert!(Mailbox::parse(bad).is_err(), "{bad:?}");
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

    #[test]
    fn mail_address_has_at_most_254_bytes_and_64_before_the_at_sign() {
        let address = |local: usize, last_label: usize| {
            let label = "d".repeat(63);
            format!("{}@{label}.{label}.{}", "l".repeat(local), "d".repeat(last_label))
        };
        assert_eq!(address(64, 61).len(), MAX_MAIL_BYTES);
        assert!(mail_address(&address(64, 61)).is_ok());
        assert!(mail_address(&address(64, 62)).is_err(), "255 bytes");
        assert!(mail_address(&address(65, 1)).is_err(), "65 bytes before the @");
    }
}
