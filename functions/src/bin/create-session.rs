//! The `create-session` function serves the routes in [`route::CREATE_SESSION`].

use doorward::{
    function::{Error, http},
    route::{self, Function},
};

#[tokio::main]
async fn main() -> Result<(), Error> {
    http::serve(Function::CreateSession, &route::CREATE_SESSION).await
}
