//! OCARIoT v1: reset password (docs/design/contract.md#ocariot-v1).

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Call, CrossOrigin, Dialect, HttpRequest, Reply, ReplyBody,
    failure::{status, text},
};
use crate::{
    domain::{Failure, FieldError, Password, UserId},
    json::{self, ObjectError},
    usecase::update_credentials,
};

/// Texts that clients compare literally (docs/design/contract.md#ocariot-v1).
const REQUIRED: &str = "is required!";
const NO_STRING: &str = "must be a string!";
const EMPTY: &str = "must have at least one character!";

const BODY: &str = "body";
const USER_ID: &str = "user_id";
const NEW_PASSWORD: &str = "new_password";

/// OCARIoT v1.
pub(crate) static OCARIOT: Dialect = Dialect {
    name: "ocariot",
    cross_origin: CrossOrigin::Listed,
    is_audited: true,
    failure: |failure, _, now| self::failure(failure, now),
};

/// Handles `POST /v1/users/{user_id}/reset-password`.
pub(crate) async fn reset_password(call: &Call<'_>) -> Result<Reply, Failure> {
    let command = parse(call.request)?;
    call.service.update_credentials(command, call.context).await?;
    Ok(Reply::new(StatusCode::NO_CONTENT, ReplyBody::Empty))
}

/// Parses a request. Reports only the first fault, because an error of this dialect holds one.
fn parse(request: &HttpRequest) -> Result<update_credentials::Command, Failure> {
    request.check_body()?;
    let body = if request.body.is_empty() {
        Value::Null
    } else if request.content_type().as_deref() == Some("application/json") {
        match json::parse_object(&request.body) {
            Ok(members) => Value::Object(members),
            Err(ObjectError::OtherType) => {
                return Err(Failure::field(BODY, "expected an object at line 1 column 1"));
            }
            Err(ObjectError::Invalid(error)) => return Err(Failure::field(BODY, error.to_string())),
        }
    } else {
        return Err(Failure::UnsupportedMediaType);
    };
    let user = request
        .matched
        .parameter(USER_ID)
        .filter(|id| id.len() == 24 && id.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .and_then(|id| UserId::parse(id).ok())
        .ok_or_else(|| Failure::field(USER_ID, "is not in valid format!"))?;
    let password = match body.get(NEW_PASSWORD) {
        None | Some(Value::Null) => Err(REQUIRED.to_owned()),
        Some(Value::String(text)) if text.is_empty() => Err(EMPTY.to_owned()),
        Some(Value::String(text)) => Password::parse(text).map_err(|why| why.to_string()),
        Some(_) => Err(NO_STRING.to_owned()),
    };
    let password = password.map_err(|why| Failure::field(NEW_PASSWORD, why))?;
    let (tenant, bearer) = request.bearer_and_tenant()?;
    Ok(update_credentials::Command {
        tenant,
        bearer,
        user,
        changes: update_credentials::Changes {
            password: Some((password, NEW_PASSWORD)),
            ..update_credentials::Changes::default()
        },
        others_only: true,
        ip: request.ip.clone(),
    })
}

/// Renders a failure.
fn failure(failure: &Failure, now: Timestamp) -> Reply {
    let status = status(failure);
    let reason = status.canonical_reason().unwrap_or_default();
    let (message, description) = match (failure, status) {
        (Failure::Malformed(why), _) => (reason, (*why).to_owned()),
        (Failure::Validation(errors) | Failure::PasswordPolicy(errors), _) => {
            (faulty(errors), described(errors))
        }
        (Failure::UserNotFound, _) => ("User not found!", "There is no user with that id.".to_owned()),
        (_, StatusCode::UNAUTHORIZED) => {
            ("UNAUTHORIZED", "Authentication failed for lack of authentication credentials.".to_owned())
        }
        (_, StatusCode::FORBIDDEN) => {
            ("FORBIDDEN", "Authorization failed due to insufficient permissions.".to_owned())
        }
        _ => (reason, format!("{}.", text(failure))),
    };
    let body = json!({ "code": status.as_u16(), "message": message, "description": description });
    Reply::json(status, body).with_failure_headers(failure, now)
}

/// Description of the faults: of invalid JSON, or of each invalid field.
fn described(errors: &[FieldError]) -> String {
    let each: Vec<_> = errors
        .iter()
        .map(|error| match &*error.field {
            BODY => error.message.to_string(),
            USER_ID => "user_id must be 24 hexadecimal digits.".to_owned(),
            field => format!("{field} {}", error.message),
        })
        .collect();
    each.join("; ")
}

fn faulty(errors: &[FieldError]) -> &'static str {
    match errors.first() {
        Some(error) if error.field == BODY => "Invalid JSON text",
        Some(error) if error.field == USER_ID => "Parameter {user_id} is not in valid format!",
        Some(error) if error.message == REQUIRED => "Required field not provided...",
        _ => "One or more request fields are invalid...",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        dialect::tests::{at, request},
        domain::TokenFault,
        route,
    };

    const ID: &str = "5a62be07de34500146d9c544";

    fn parsed(id: &str, body: &[u8]) -> Result<(), Failure> {
        let request = request(&[("content-type", "application/json")], body);
        let path = format!("/v1/users/{id}/reset-password");
        parse(&at(request, &path, &route::UPDATE_CREDENTIALS)).map(|_| ())
    }

    fn told(failure: &Failure) -> (u16, String, String) {
        let reply = super::failure(failure, Timestamp::UNIX_EPOCH);
        let ReplyBody::Json(body) = reply.body else { panic!("no JSON") };
        assert_eq!(body["code"], reply.status.as_u16());
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        (reply.status.as_u16(), text("message"), text("description"))
    }

    // docs/design/contract.md#ocariot-v1: clients compare these texts.
    #[test]
    fn what_is_wrong_is_said_in_the_words_that_clients_match() {
        for (body, message, description) in [
            ("{}", "Required field not provided...", "new_password is required!"),
            ("", "Required field not provided...", "new_password is required!"),
            (r#"{"new_password":null}"#, "Required field not provided...", "new_password is required!"),
            (
                r#"{"new_password":7}"#,
                "One or more request fields are invalid...",
                "new_password must be a string!",
            ),
            (
                r#"{"new_password":""}"#,
                "One or more request fields are invalid...",
                "new_password must have at least one character!",
            ),
            ("{", "Invalid JSON text", "EOF while parsing an object at line 1 column 1"),
            (r#"{"a":1,"a":2}"#, "Invalid JSON text", "duplicate member at line 1 column 13"),
            ("[]", "Invalid JSON text", "expected an object at line 1 column 1"),
        ] {
            let failure = parsed(ID, body.as_bytes()).unwrap_err();
            assert_eq!(told(&failure), (400, message.to_owned(), description.to_owned()), "{body}");
        }
        for id in ["u", "5a62be07de34500146d9c54", "5a62be07de34500146d9c54g", "5a62be07de34500146d9c5440"] {
            let failure = parsed(id, br#"{"new_password":"p"}"#).unwrap_err();
            assert_eq!(told(&failure).1, "Parameter {user_id} is not in valid format!");
        }
        let failure = parsed(ID, br#"{"new_password":"p"}"#).unwrap_err();
        assert!(matches!(failure, Failure::InvalidToken(TokenFault::Missing)));
    }

    // A cause goes to the log, never to the client.
    #[test]
    fn causes_stay_inside() {
        let told = told(&Failure::Internal("secret cause".into()));
        assert_eq!((told.0, told.1.as_str()), (500, "Internal Server Error"));
        assert!(!told.2.contains("secret"));
    }

    proptest! {
        // docs/design/security.md#rule-23: every input is a command or a client error.
        #[test]
        fn no_body_is_our_fault(body in prop::collection::vec(any::<u8>(), 0..300)) {
            match parsed(ID, &body) {
                Err(failure) => prop_assert!(told(&failure).0 < 500, "{failure}"),
                Ok(()) => prop_assert!(false, "without a bearer"),
            }
        }
    }
}
