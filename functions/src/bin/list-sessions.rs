//! The `list-sessions` function serves the routes in [`route::LIST_SESSIONS`].

use doorward::{
    function::{Error, http},
    route::{self, Function},
};

#[tokio::main]
async fn main() -> Result<(), Error> {
    http::serve(Function::ListSessions, route::LIST_SESSIONS.as_flattened()).await
}
