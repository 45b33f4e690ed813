//! Folder that keeps the local stack's data between runs. One stack uses it at a time.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    problem::{EXIT_USAGE, Problem},
    stack::make_private_dir,
};

/// Folder that is locked until the value is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Lock file. The operating system releases the lock when the process ends.
    lock: File,
}

impl DataDir {
    /// Creates the folder if it is missing, and locks it.
    ///
    /// # Errors
    /// A [`Problem`] when another running stack uses the folder.
    pub fn open(path: &Path) -> Result<Self> {
        let attempt = || {
            make_private_dir(path)?;
            let file = File::options().create(true).truncate(false).write(true).open(path.join("lock"))?;
            match file.try_lock() {
                // Without symbolic links and `..`, because callers compare it with the workspace's path.
                Ok(()) => Ok(Some((path.canonicalize()?, file))),
                Err(TryLockError::WouldBlock) => Ok(None),
                Err(TryLockError::Error(error)) => Err(error),
            }
        };
        let (path, lock) = attempt()
            .with_context(|| format!("cannot use the data folder {}", path.display()))?
            .ok_or_else(|| taken(path))?;
        Ok(Self { path, lock })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[must_use]
    pub fn dynamodb(&self) -> PathBuf {
        self.path.join("dynamodb.sqlite")
    }

    #[must_use]
    pub fn secrets(&self) -> PathBuf {
        self.path.join("secrets.json")
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // Closing the file is not enough while another thread starts a process: between its fork
        // and its exec, that process has the file open too.
        drop(self.lock.unlock());
    }
}

fn taken(path: &Path) -> Problem {
    Problem::new(
        format!("Another running stack uses the data folder {}.", path.display()),
        "Stop the other stack, or give this one its own data: cargo dev --memory, \
         or cargo dev --data-dir DIR",
    )
    .with_exit_code(EXIT_USAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_stack_is_rejected_until_the_first_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/data");
        let first = DataDir::open(&path).unwrap();
        let error = DataDir::open(&path).unwrap_err();
        assert!(error.downcast_ref::<Problem>().is_some(), "{error:#}");
        drop(first);
        DataDir::open(&path).unwrap();
    }
}
