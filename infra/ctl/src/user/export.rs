//! `doorwardctl user export`

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueHint};
use doorward::{
    domain::TenantId,
    store::{MAX_USERS, UsersOf},
};
use serde_json::json;

use super::{require_index, user_record::UserRecord};
use crate::{Context, output::unless_closed};

#[derive(Debug, Args)]
pub(crate) struct ExportUsers {
    /// Tenant ID
    #[arg(value_parser = TenantId::parse)]
    tenant: TenantId,

    /// New file to write to. Only its owner can read it [default: stdout]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    out: Option<PathBuf>,
}

impl ExportUsers {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let Self { tenant, out } = self;
        // Creates the file first, so that an existing file fails before the table is read.
        let mut file = out.as_deref().map(private).transpose()?;
        let lines = match lines(context, &tenant).await {
            Ok(lines) => lines,
            Err(error) => {
                // The file is new and empty.
                let _ = out.map(std::fs::remove_file);
                return Err(error);
            }
        };
        let count = lines.len();
        let text = lines.concat();
        let warning = "The export contains password hashes; protect it like the table.";
        let (Some(file), Some(out)) = (&mut file, &out) else {
            unless_closed(io::stdout().write_all(text.as_bytes()))?;
            return context.output.note(&format!("Exported users: {count}. {warning}"));
        };
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .with_context(|| format!("cannot write {}", out.display()))?;
        context.output.result(&json!({ "tenant": tenant, "users": count, "file": out }), || {
            format!("Exported users to {}: {count}. {warning}", out.display())
        })
    }
}

/// Returns one line per user, sorted by ID. Keeps all lines in memory, because the index sorts users by organization.
async fn lines(context: &Context, tenant: &TenantId) -> Result<Vec<String>> {
    require_index(context, tenant).await?;
    let of = UsersOf { tenant, organization: None };
    let (mut known, mut unreadable, mut from) = (Vec::new(), Vec::new(), None);
    loop {
        let page = context.store.users_after(&of, from.as_ref(), MAX_USERS).await?;
        for user in &page.users {
            known.push((user.id.clone(), UserRecord::of(user).to_line()?));
        }
        unreadable.extend(page.unreadable);
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    if !unreadable.is_empty() {
        bail!(
            "nothing was exported: these stored items are unreadable: {}; repair or delete them",
            unreadable.join(", ")
        );
    }
    known.sort();
    Ok(known.into_iter().map(|(_, line)| line).collect())
}

/// Creates a file that only its owner can read.
pub(super) fn private(path: &Path) -> Result<std::fs::File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot create {}; an export does not overwrite files", path.display()))
}
