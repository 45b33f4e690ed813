//! Messages on their way out of AWS: mail by SES v2, text messages by SNS, events by EventBridge.

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_sesv2::{
    error::ProvideErrorMetadata,
    types::{Body, Content, Destination, EmailContent, Message, MessageHeader},
};
use aws_sdk_sns::types::MessageAttributeValue;

use crate::{
    aws::{rejected, undelivered},
    domain::Failure,
    port::{BusEvent, Courier, CourierError, Mail},
};

/// What SES refuses for good: the address or the content. A paused account and a throttle pass, or
/// somebody sees to them.
const REFUSED_BY_SES: [&str; 2] = ["BadRequestException", "MessageRejected"];
/// What SES says, by `MessageRejected` too, of a sender that nobody verified yet, and of any recipient
/// while the account is in the sandbox (Amazon SES, "Troubleshooting"): somebody sees to that.
const NOT_VERIFIED: &str = "not verified";
/// What SNS refuses for good: the number, by its form or because its owner wants no messages.
const REFUSED_BY_SNS: [&str; 4] =
    ["InvalidParameter", "OptedOut", "ParameterValueInvalid", "ValidationException"];
/// What EventBridge refuses for good: the event itself.
const REFUSED_BY_EVENTBRIDGE: [&str; 3] = ["InvalidArgument", "MalformedDetail", "ValidationException"];

/// `source` of every event.
const EVENT_SOURCE: &str = "doorward";

/// A courier over AWS.
#[derive(Debug, Clone)]
pub struct AwsCourier {
    ses: aws_sdk_sesv2::Client,
    sns: aws_sdk_sns::Client,
    events: aws_sdk_eventbridge::Client,
}

impl AwsCourier {
    /// A courier that calls AWS as `sdk` says.
    pub fn new(sdk: &SdkConfig) -> Self {
        Self::of(
            aws_sdk_sesv2::Client::new(sdk),
            aws_sdk_sns::Client::new(sdk),
            aws_sdk_eventbridge::Client::new(sdk),
        )
    }

    /// A courier over these clients.
    pub fn of(
        ses: aws_sdk_sesv2::Client,
        sns: aws_sdk_sns::Client,
        events: aws_sdk_eventbridge::Client,
    ) -> Self {
        Self { ses, sns, events }
    }
}

#[async_trait]
impl Courier for AwsCourier {
    async fn send_mail(&self, mail: &Mail<'_>) -> Result<(), CourierError> {
        let mut body = Body::builder().text(content(mail.text)?);
        if let Some(html) = mail.html {
            body = body.html(content(html)?);
        }
        // No absence note is to answer it (RFC 3834, section 5).
        let automatic = MessageHeader::builder()
            .name("Auto-Submitted")
            .value("auto-generated")
            .build()
            .map_err(unbuilt)?;
        let message =
            Message::builder().subject(content(mail.subject)?).body(body.build()).headers(automatic).build();
        self.ses
            .send_email()
            .from_email_address(mail.from)
            .destination(Destination::builder().to_addresses(mail.to).build())
            .content(EmailContent::builder().simple(message).build())
            .send()
            .await
            .map(|_| ())
            .map_err(|error| {
                let said = error.as_service_error().and_then(ProvideErrorMetadata::message);
                let is_for_good = !said.is_some_and(|said| said.contains(NOT_VERIFIED));
                undelivered("SES", &error, if is_for_good { &REFUSED_BY_SES } else { &[] })
            })
    }

    async fn send_text(&self, number: &str, text: &str) -> Result<(), CourierError> {
        // Transactional: delivered even where promotional messages are held back.
        let kind = MessageAttributeValue::builder()
            .data_type("String")
            .string_value("Transactional")
            .build()
            .map_err(unbuilt)?;
        self.sns
            .publish()
            .phone_number(number)
            .message(text)
            .message_attributes("AWS.SNS.SMS.SMSType", kind)
            .send()
            .await
            .map(|_| ())
            .map_err(|error| undelivered("SNS", &error, &REFUSED_BY_SNS))
    }

    async fn send_event(&self, event: &BusEvent<'_>) -> Result<(), CourierError> {
        let entry = PutEventsRequestEntry::builder()
            .event_bus_name(event.bus)
            .source(EVENT_SOURCE)
            .detail_type(event.detail_type)
            .detail(event.detail)
            .build();
        let answer = self
            .events
            .put_events()
            .entries(entry)
            .send()
            .await
            .map_err(|error| undelivered("EventBridge", &error, &REFUSED_BY_EVENTBRIDGE))?;
        if answer.failed_entry_count() == 0 {
            return Ok(());
        }
        let code = answer.entries().first().and_then(|entry| entry.error_code());
        Err(rejected("EventBridge", code, &REFUSED_BY_EVENTBRIDGE))
    }
}

fn content(text: &str) -> Result<Content, CourierError> {
    Content::builder().data(text).charset("UTF-8").build().map_err(unbuilt)
}

/// No such error says more than which field was missing.
fn unbuilt(error: impl std::error::Error + Send + Sync + 'static) -> CourierError {
    CourierError::Failed(Failure::Internal(Box::new(error)))
}
