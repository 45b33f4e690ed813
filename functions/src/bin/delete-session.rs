//! The `delete-session` function serves the routes in [`route::DELETE_SESSION`].

use doorward::{
    function::{Error, http},
    route::{self, Function},
};

#[tokio::main]
async fn main() -> Result<(), Error> {
    http::serve(Function::DeleteSession, route::DELETE_SESSION.as_flattened()).await
}
