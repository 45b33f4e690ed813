//! Names and values, as queries and forms have them.

use percent_encoding::percent_decode_str;

/// Names and values of a query or a form (URL, section 5.1). Strict where that section is not: a
/// password must not be changed into another by replacing what is no UTF-8.
pub(super) struct Pairs(Vec<(String, String)>);

/// A name is there twice: which value counts is nobody's guess.
pub(super) struct Twice;

impl Pairs {
    /// `None` for what is no UTF-8.
    pub(super) fn read(text: &str) -> Option<Self> {
        let decoded =
            |part: &str| percent_decode_str(&part.replace('+', " ")).decode_utf8().map(String::from).ok();
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decoded(name)?, decoded(value)?))
        };
        text.split('&').filter(|part| !part.is_empty()).map(pair).collect::<Option<_>>().map(Self)
    }

    /// The value of that name.
    ///
    /// # Errors
    /// [`Twice`].
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, Twice> {
        let mut values = self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(Twice),
        }
    }
}
