//! Error responses in the format of DynamoDB and Secrets Manager.

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    call::{Call, ItemKey},
    conflicts::Overlap,
    fault::{Effect, ItemPattern},
};

/// Status and body of an error response.
pub(super) type Refusal = (StatusCode, Value);

/// Returns the error of an effect; `None` if the effect is not an error.
pub(super) fn of(effect: Effect, call: &Call, item: &ItemPattern) -> Option<Refusal> {
    match effect {
        Effect::Conflict => {
            let conflicting: Vec<_> = call.keys.iter().map(|key: &ItemKey| item.matches(key)).collect();
            Some(conflict(call, &conflicting))
        }
        Effect::Throttle => {
            Some(bad_request("ThrottlingException", "Rate of requests exceeds the allowed throughput."))
        }
        Effect::ExceedThroughput => {
            let message = "The level of configured provisioned throughput for the table was exceeded.";
            Some(bad_request("ProvisionedThroughputExceededException", message))
        }
        Effect::FailInternally => {
            let body = error("InternalServerError", "Internal server error");
            Some((StatusCode::INTERNAL_SERVER_ERROR, body))
        }
        _ => None,
    }
}

/// Returns the error of a call that overlaps with another one.
pub(super) fn overlap(call: &Call, overlap: &Overlap) -> Refusal {
    match overlap {
        Overlap::Items(conflicting) => conflict(call, conflicting),
        Overlap::SameToken => bad_request(
            "TransactionInProgressException",
            "The transaction with the given request token is already in progress.",
        ),
    }
}

/// Returns the conflict of a write; a transaction has one reason for each of its items.
fn conflict(call: &Call, conflicting: &[bool]) -> Refusal {
    const MESSAGE: &str = "Transaction is ongoing for the item";
    if !call.operation.is_transaction() {
        return bad_request("TransactionConflictException", MESSAGE);
    }
    let reason = |is: &bool| match is {
        true => json!({ "Code": "TransactionConflict", "Message": MESSAGE }),
        false => json!({ "Code": "None" }),
    };
    let reasons: Vec<_> = conflicting.iter().map(reason).collect();
    let codes: Vec<_> = reasons.iter().filter_map(|reason| reason["Code"].as_str()).collect();
    let message = format!(
        "Transaction cancelled, please refer cancellation reasons for specific reasons [{}]",
        codes.join(", ")
    );
    let mut body = error("TransactionCanceledException", &message);
    body["CancellationReasons"] = json!(reasons);
    (StatusCode::BAD_REQUEST, body)
}

fn bad_request(code: &str, message: &str) -> Refusal {
    (StatusCode::BAD_REQUEST, error(code, message))
}

fn error(code: &str, message: &str) -> Value {
    json!({ "__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": message })
}
