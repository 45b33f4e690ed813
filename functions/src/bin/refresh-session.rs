//! The `refresh-session` function serves the routes in [`route::REFRESH_SESSION`].

use doorward::{
    function::{Error, http},
    route::{self, Function},
};

#[tokio::main]
async fn main() -> Result<(), Error> {
    http::serve(Function::RefreshSession, &route::REFRESH_SESSION).await
}
