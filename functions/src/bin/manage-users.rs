//! The `manage-users` function serves the routes in [`route::MANAGE_USERS`].

use doorward::{
    function::{Error, http},
    route::{self, Function},
};

#[tokio::main]
async fn main() -> Result<(), Error> {
    http::serve(Function::ManageUsers, route::MANAGE_USERS.as_flattened()).await
}
