//! `doorwardctl user find`

use anyhow::{Result, bail};
use doorward::domain::User;
use serde_json::Value;

use super::{args::FindUsers, described, list, tenant};
use crate::{Context, output::Output};

impl FindUsers {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let Self { tenant: id, email, name } = self;
        tenant(context, &id).await?;
        let (users, are_more): (Vec<User>, bool) = match (&email, &name) {
            (Some(address), _) => {
                let found = context.store.users_by_email(&id, address).await?;
                (found.users, found.are_more)
            }
            (None, Some(name)) => (context.store.user_by_name(&id, name).await?.into_iter().collect(), false),
            (None, None) => (Vec::new(), false),
        };
        if users.is_empty() {
            bail!(
                "no user of tenant {id} has this {}",
                if email.is_some() { "mail address" } else { "username" }
            );
        }
        if context.output.json {
            return users.iter().try_for_each(|user| Output::line(&described(user)));
        }
        let more = if are_more { "\n\nMore users have this mail address." } else { "" };
        context.output.result(&Value::Null, || list::table_of(&users) + more)
    }
}
