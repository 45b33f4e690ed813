//! `doorwardctl user export`

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueHint};
use doorward::domain::TenantId;
use serde_json::json;

use crate::{Context, output::unless_closed, record::Record};

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The tenant's id
    #[arg(value_parser = TenantId::parse)]
    tenant: TenantId,

    /// Write to this new file, which only you can read [default: stdout]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    out: Option<PathBuf>,
}

impl Export {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let Self { tenant, out } = self;
        // Before anything is read: a file that cannot be had costs nothing.
        let mut file = out.as_deref().map(private).transpose()?;
        let lines = match lines(context, &tenant).await {
            Ok(lines) => lines,
            Err(error) => {
                // It was made just now, and is empty.
                let _ = out.map(std::fs::remove_file);
                return Err(error);
            }
        };
        let count = lines.len();
        let text = lines.concat();
        let warning = "It holds the hashes of their passwords: keep it as you keep the table.";
        let (Some(file), Some(out)) = (&mut file, &out) else {
            unless_closed(io::stdout().write_all(text.as_bytes()))?;
            return context.output.note(&format!("Users: {count}. {warning}"));
        };
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .with_context(|| format!("cannot write {}", out.display()))?;
        context.output.result(&json!({ "tenant": tenant, "users": count, "file": out }), || {
            format!("Users in {}: {count}. {warning}", out.display())
        })
    }
}

/// Every user's line, by id. They are kept until the last one is read: a table has no order of users.
async fn lines(context: &Context, tenant: &TenantId) -> Result<Vec<String>> {
    if context.store.tenant_record(tenant).await?.is_none() {
        bail!("there is no tenant {tenant}: see `tenant list`");
    }
    let (mut known, mut unreadable, mut from) = (Vec::new(), Vec::new(), None);
    loop {
        let page = context.store.users(tenant, from.as_ref()).await?;
        for user in &page.users {
            known.push((user.id.clone(), Record::of(user).to_line()?));
        }
        unreadable.extend(page.unreadable);
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    if !unreadable.is_empty() {
        bail!("nothing was exported, these items cannot be read: {}", unreadable.join(", "));
    }
    known.sort();
    Ok(known.into_iter().map(|(_, line)| line).collect())
}

/// A new file of the owner's alone.
fn private(path: &Path) -> Result<std::fs::File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot make {}: an export replaces no file", path.display()))
}
