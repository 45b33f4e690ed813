//! Generates the list of common passwords (`domain/blocklist/list.rs`) from its sources:
//!
//!     cargo run -p doorward --example blocklist -- common-passwords.txt passwords.json \
//!         > shared/src/domain/blocklist/common-passwords.bin
//!
//! A `.json` file contains one array of strings. Any other file contains one password per line.

use std::{collections::BTreeSet, env, error::Error, fs, io, io::Write};

use doorward::domain::{fingerprint, folded};

fn main() -> Result<(), Box<dyn Error>> {
    let mut fingerprints = BTreeSet::new();
    for path in env::args().skip(1) {
        let text = fs::read_to_string(&path)?;
        let passwords: Vec<String> = match path.strip_suffix(".json") {
            Some(_) => serde_json::from_str(&text)?,
            None => text.lines().map(str::to_owned).collect(),
        };
        fingerprints.extend(passwords.iter().filter_map(|password| fingerprint(&folded(password))));
    }
    io::stdout().write_all(&fingerprints.into_iter().collect::<Vec<_>>().concat())?;
    Ok(())
}
