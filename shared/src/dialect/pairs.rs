//! Names and values in a query or a form.

use percent_encoding::percent_decode_str;

/// Decoded names and values (URL, section 5.1). Unlike that section, invalid UTF-8 is an error: replacing it would
/// change a password.
pub(super) struct Pairs(Vec<(String, String)>);

/// Error for a name that appears more than once.
pub(super) struct Twice;

impl Pairs {
    /// Decodes a text; `None` if it is not UTF-8.
    pub(super) fn read(text: &str) -> Option<Self> {
        let decoded =
            |part: &str| percent_decode_str(&part.replace('+', " ")).decode_utf8().map(String::from).ok();
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decoded(name)?, decoded(value)?))
        };
        text.split('&').filter(|part| !part.is_empty()).map(pair).collect::<Option<_>>().map(Self)
    }

    /// The value of a name; `None` if the name does not appear.
    ///
    /// # Errors
    /// [`Twice`] if the name appears more than once.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, Twice> {
        let mut values = self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(Twice),
        }
    }
}
