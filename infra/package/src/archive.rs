//! Zip files whose bytes depend only on their contents.

use std::{
    fmt::Write as _,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use aws_lc_rs::digest::{SHA256, digest};
use tempfile::TempDir;
use zip::{CompressionMethod, DateTime, System, ZipWriter, write::SimpleFileOptions};

/// Name of the program that Lambda's `provided` runtimes start.
const PROGRAM: &str = "bootstrap";
/// File mode. Lambda runs the program as another user than its owner.
const MODE: u32 = 0o755;
/// Maximum compression, because a function is packed once and downloaded at each cold start.
const LEVEL: i64 = 9;

/// Sizes and hash of a zip file.
pub(crate) struct Packed {
    pub(crate) program_bytes: u64,
    pub(crate) zip_bytes: u64,
    pub(crate) sha256: String,
}

/// Packs a program as the only file of a zip file, with a fixed name, mode, system and time.
pub(crate) fn pack(program: &Path, zip: &Path) -> Result<Packed> {
    let program = std::fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let bytes = packed(&program)?;
    let mut file = File::create(zip).with_context(|| format!("cannot write {}", zip.display()))?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    Ok(Packed {
        program_bytes: u64::try_from(program.len())?,
        zip_bytes: u64::try_from(bytes.len())?,
        sha256: hexadecimal(digest(&SHA256, &bytes).as_ref()),
    })
}

fn packed(program: &[u8]) -> Result<Vec<u8>> {
    let options = SimpleFileOptions::DEFAULT
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(LEVEL))
        .last_modified_time(DateTime::DEFAULT)
        .system(System::Unix)
        .unix_permissions(MODE);
    let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.start_file(PROGRAM, options)?;
    writer.write_all(program)?;
    Ok(writer.finish()?.into_inner())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Temporary folder of new zip files, which then replaces the old folder as a whole.
pub(crate) struct Staging(TempDir);

impl Staging {
    /// Creates the temporary folder beside `folder`, on the same file system.
    pub(crate) fn beside(folder: &Path) -> Result<Self> {
        let parent = folder.parent().context("the folder has no parent")?;
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        let staging = tempfile::Builder::new().prefix(".new-").tempdir_in(parent)?;
        Ok(Self(staging))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Refolders `folder`.
    pub(crate) fn replace(self, folder: &Path) -> Result<()> {
        if folder.exists() {
            std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        let staged: PathBuf = self.0.keep();
        std::fs::rename(&staged, folder).with_context(|| format!("cannot rename {}", staged.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// The mode and time of the program's file must not affect the zip file. A change of these bytes
    /// changes every function's hash, so that the next deployment replaces all functions.
    #[test]
    fn same_program_gives_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let pack_with = |name: &str, mode: u32, age: u64| {
            let program = folder.path().join(name);
            std::fs::write(&program, b"\x7fELF program").unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(mode)).unwrap();
            let file = File::options().write(true).open(&program).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(age)).unwrap();
            let zip = folder.path().join(format!("{name}.zip"));
            let packed = pack(&program, &zip).unwrap();
            (packed.sha256, std::fs::read(zip).unwrap())
        };
        let (first, bytes) = pack_with("a", 0o755, 1_000_000_000);
        let (second, again) = pack_with("b", 0o600, 1_700_000_000);
        assert_eq!(first, second);
        assert_eq!(bytes, again);
        assert_eq!(first, "51cd90b556e5bc8fd4c9b2ab3fd23aa309d63621547aceb648c50e92805c0a65");
    }

    #[test]
    fn zip_file_contains_one_executable_program() {
        let bytes = packed(b"program").unwrap();
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
        assert_eq!(archive.len(), 1);
        let mut file = archive.by_index(0).unwrap();
        assert_eq!(file.name().unwrap(), "bootstrap");
        assert_eq!(file.unix_mode().unwrap() & 0o777, 0o755);
        let mut program = String::new();
        std::io::Read::read_to_string(&mut file, &mut program).unwrap();
        assert_eq!(program, "program");
    }

    #[test]
    fn old_zip_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("package/arm64");
        for name in ["old.zip", "new.zip"] {
            let staging = Staging::beside(&place).unwrap();
            std::fs::write(staging.path().join(name), b"").unwrap();
            staging.replace(&place).unwrap();
        }
        let left: Vec<_> = std::fs::read_dir(&place).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(left, ["new.zip"]);
        assert_eq!(std::fs::read_dir(place.parent().unwrap()).unwrap().count(), 1);
    }
}
