//! Answers to reads of secrets, which a fault returns again after the secret has changed.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use http::{Response, StatusCode, response::Parts};
use http_body_util::{BodyExt, Full};

use super::call::{Call, Operation};

/// The last answer to each request that had no fault.
#[derive(Default)]
pub(super) struct EarlierAnswers(Mutex<HashMap<(Operation, Bytes), (Parts, Bytes)>>);

impl EarlierAnswers {
    /// Stores the answer to a read of a secret, and returns it.
    pub(super) async fn note(&self, call: &Call, answer: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
        if !call.operation.is_secret_read() || answer.status() == StatusCode::INTERNAL_SERVER_ERROR {
            return answer;
        }
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert((call.operation, call.body.clone()), (head.clone(), body.clone()));
        drop(answers);
        Response::from_parts(head, Full::new(body))
    }

    /// Returns the answer to an earlier, equal request.
    pub(super) fn of(&self, call: &Call) -> Option<Response<Full<Bytes>>> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (head, body) = answers.get(&(call.operation, call.body.clone()))?;
        Some(Response::from_parts(head.clone(), Full::new(body.clone())))
    }
}
