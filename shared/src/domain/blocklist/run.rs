//! Sequences and keyboard runs.

use zeroize::Zeroizing;

use super::outside;

/// Minimum length of a run in characters.
const SHORTEST: usize = 3;

/// Rows and columns of keys, unshifted and shifted: QWERTY, QWERTZ, AZERTY, ЙЦУКЕН and the number pad.
const LINES: [&str; 37] = [
    "`1234567890-=",
    "~!@#$%^&*()_+",
    "qwertyuiop[]\\",
    "asdfghjkl;'",
    "zxcvbnm,./",
    "1qaz",
    "2wsx",
    "3edc",
    "4rfv",
    "5tgb",
    "6yhn",
    "7ujm",
    "8ik,",
    "9ol.",
    "0p;/",
    "1234567890ß",
    "!\"§$%&/()=",
    "qwertzuiopü",
    "asdfghjklöä",
    "yxcvbnm,.-",
    "1qay",
    "2wsx",
    "3edc",
    "6zhn",
    "&é\"'(-è_çà)=",
    "azertyuiop",
    "qsdfghjklmù",
    "wxcvbn,;:!",
    "1aqw",
    "2zsx",
    "3edc",
    "йцукенгшщзхъ",
    "фывапролджэ",
    "ячсмитьбю",
    "147",
    "258",
    "369",
];

/// Returns whether `chars` consists of runs. Repeated characters and two interleaved runs (`q1w2e3r4`) count
/// as runs, too.
pub(super) fn is_walk(chars: &[char]) -> bool {
    let mut distinct = Zeroizing::new(chars.to_vec());
    distinct.dedup();
    let every_other = |from: usize| -> Zeroizing<Vec<char>> {
        Zeroizing::new(chars.iter().skip(from).step_by(2).copied().collect())
    };
    covers(chars) || covers(&distinct) || (covers(&every_other(0)) && covers(&every_other(1)))
}

fn covers(chars: &[char]) -> bool {
    outside_any(chars) == Some(0)
}

/// Returns the minimum number of characters outside runs, or `None` if a letter is outside.
pub(super) fn outside_any(chars: &[char]) -> Option<usize> {
    outside(chars, |rest| heads(rest).collect())
}

/// Returns the lengths of all runs that `chars` starts with. Each prefix of a run is a run.
pub(super) fn heads(chars: &[char]) -> impl Iterator<Item = usize> + use<> {
    SHORTEST..=longest(chars)
}

/// Returns the length of the longest run that `chars` starts with: a repeated character, or neighbours in the
/// alphabet or on a keyboard, in either direction.
fn longest(chars: &[char]) -> usize {
    let while_linked = |linked: &dyn Fn(char, char) -> bool| {
        chars.iter().zip(chars.iter().skip(1)).take_while(|(a, b)| linked(**a, **b)).count() + 1
    };
    let follows = |a: char, b: char| a.is_alphanumeric() && u32::from(a) + 1 == u32::from(b);
    let same = while_linked(&|a, b| a == b);
    let rising = while_linked(&follows);
    let falling = while_linked(&|a, b| follows(b, a));
    let lines = LINES.iter().flat_map(|line| {
        let beside = |a: char, b: char| line.chars().zip(line.chars().skip(1)).any(|pair| pair == (a, b));
        [while_linked(&beside), while_linked(&|a, b| beside(b, a))]
    });
    lines.chain([same, rising, falling]).max().unwrap_or(0).min(chars.len())
}
