//! `doorwardctl user list`

use anyhow::{Context as _, Result, bail};
use doorward::{
    domain::User,
    store::{MAX_USERS, UserPosition, UsersOf},
};
use serde_json::Value;

use super::{args::ListUsers, described, require_index};
use crate::{
    Context,
    output::{Output, plain, table},
};

impl ListUsers {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let Self { tenant: id, limit, all, after } = self;
        require_index(context, &id).await?;
        let most = if all { usize::MAX } else { usize::try_from(limit).unwrap_or(usize::MAX) };
        let mut from = match after {
            None => None,
            Some(after) => {
                let known = context.store.user(&id, &after).await?;
                let known = known.with_context(|| {
                    format!("user {after} does not exist any more; start again without --after")
                })?;
                Some(UserPosition::after(&known))
            }
        };
        let of = UsersOf { tenant: &id, organization: None };
        let (mut shown, mut listed, mut last, mut unreadable) = (Vec::new(), 0, None, Vec::new());
        let more = loop {
            let page = context.store.users_after(&of, from.as_ref(), MAX_USERS.min(most - listed)).await?;
            unreadable.extend(page.unreadable);
            for user in page.users {
                listed += 1;
                if context.output.json {
                    Output::line(&described(&user))?;
                } else {
                    shown.push(user.clone());
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
            context.output.result(&Value::Null, || table_of(&shown) + &next)?;
        }
        if unreadable.is_empty() {
            Ok(())
        } else {
            bail!("these stored user items are unreadable: {}; repair or delete them", unreadable.join(", "))
        }
    }
}

/// Returns a table of users.
pub(super) fn table_of(users: &[User]) -> String {
    let head = ["USER", "USERNAME", "STATUS", "ROLES", "ORGANIZATION", "CUSTOMER"];
    table(&head, users.iter().map(row))
}

fn row(user: &User) -> Vec<String> {
    let value = described(user);
    let names = ["user", "username", "status", "roles", "organization", "customer"];
    names.map(|name| plain(value.get(name).unwrap_or(&Value::Null))).into()
}
