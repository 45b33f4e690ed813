//! The `find-users` function serves the routes in [`route::FIND_USERS`].

use doorward::{
    function::{Error, http},
    route::{self, Function},
};

#[tokio::main]
async fn main() -> Result<(), Error> {
    http::serve(Function::FindUsers, route::FIND_USERS.as_flattened()).await
}
