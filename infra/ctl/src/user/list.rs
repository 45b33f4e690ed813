//! `doorwardctl user list`

use anyhow::{Result, bail};
use doorward::{domain::User, store::UserPosition};
use serde_json::Value;

use super::{args::ListUsers, described, tenant};
use crate::{
    Context,
    output::{Output, plain, table},
};

impl ListUsers {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let Self { tenant: id, limit, all, after } = self;
        tenant(context, &id).await?;
        let most = if all { usize::MAX } else { usize::try_from(limit).unwrap_or(usize::MAX) };
        let mut from = after.map(|after| UserPosition::after(&id, &after));
        let (mut rows, mut listed, mut last, mut unreadable) = (Vec::new(), 0, None, Vec::new());
        let more = loop {
            let page = context.store.users(&id, from.as_ref()).await?;
            unreadable.extend(page.unreadable);
            for user in page.users.into_iter().take(most - listed) {
                listed += 1;
                if context.output.json {
                    Output::line(&described(&user))?;
                } else {
                    rows.push(row(&user));
                }
                last = Some(user.id);
            }
            from = page.next;
            if from.is_none() || listed == most {
                // If the limit equals the number of users, the next list can be empty.
                break listed == most;
            }
        };
        if !context.output.json {
            let next = match last.filter(|_| more) {
                Some(last) => format!("\n\nThere can be more users. To continue, pass --after {last}"),
                None => String::new(),
            };
            let head = ["USER", "USERNAME", "STATUS", "ROLES", "ORGANIZATION", "CUSTOMER"];
            context.output.result(&Value::Null, || table(&head, rows) + &next)?;
        }
        if unreadable.is_empty() {
            Ok(())
        } else {
            bail!("these stored user items are unreadable: {}; repair or delete them", unreadable.join(", "))
        }
    }
}

fn row(user: &User) -> Vec<String> {
    let value = described(user);
    let names = ["user", "username", "status", "roles", "organization", "customer"];
    names.map(|name| plain(value.get(name).unwrap_or(&Value::Null))).into()
}
