//! Delivery of messages: mail by SES v2, text messages by SNS, events by EventBridge.

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
    domain::{Failure, Mailbox, mail_address},
    port::{BusEvent, Courier, CourierError, Mail},
};

/// Permanent errors of SES: it rejects the address or the content. A paused account and throttling are temporary
/// errors.
const REFUSED_BY_SES: [&str; 2] = ["BadRequestException", "MessageRejected"];
/// Part of SES's message for an unverified sender, and for any recipient while the account is in the sandbox
/// (Amazon SES, "Troubleshooting"). Both have the code `MessageRejected` but are temporary, because an operator
/// can correct them.
const NOT_VERIFIED: &str = "not verified";
/// Permanent errors of SNS: the number is invalid, or its owner has opted out.
const REFUSED_BY_SNS: [&str; 4] =
    ["InvalidParameter", "OptedOut", "ParameterValueInvalid", "ValidationException"];
/// Permanent errors of EventBridge: it rejects the event.
const REFUSED_BY_EVENTBRIDGE: [&str; 3] = ["InvalidArgument", "MalformedDetail", "ValidationException"];

/// `source` of every event.
const EVENT_SOURCE: &str = "doorward";

/// Courier that uses AWS services.
#[derive(Debug, Clone)]
pub struct AwsCourier {
    ses: aws_sdk_sesv2::Client,
    sns: aws_sdk_sns::Client,
    events: aws_sdk_eventbridge::Client,
}

impl AwsCourier {
    /// Creates a courier with clients for an SDK configuration.
    pub fn new(sdk: &SdkConfig) -> Self {
        Self::of(
            aws_sdk_sesv2::Client::new(sdk),
            aws_sdk_sns::Client::new(sdk),
            aws_sdk_eventbridge::Client::new(sdk),
        )
    }

    /// Creates a courier with the given clients.
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
        // Prevents automatic replies such as absence notices (RFC 3834, section 5).
        let automatic = MessageHeader::builder()
            .name("Auto-Submitted")
            .value("auto-generated")
            .build()
            .map_err(unbuilt)?;
        let message =
            Message::builder().subject(content(mail.subject)?).body(body.build()).headers(automatic).build();
        // An operator can correct the sender.
        let from = Mailbox::parse(mail.from).map_err(|invalid| {
            CourierError::Failed(Failure::Internal(format!("the sender {invalid}").into()))
        })?;
        // Addresses of earlier versions may have an international domain. The error does not quote the address.
        let to = mail_address(mail.to)
            .map_err(|invalid| CourierError::Refused(format!("the recipient {invalid}")))?;
        self.ses
            .send_email()
            .from_email_address(from.header())
            .destination(Destination::builder().to_addresses(to).build())
            .content(EmailContent::builder().simple(message).build())
            .send()
            .await
            .map(|_| ())
            .map_err(|error| {
                let message = error.as_service_error().and_then(ProvideErrorMetadata::message);
                let is_permanent = !message.is_some_and(|message| message.contains(NOT_VERIFIED));
                undelivered("SES", &error, if is_permanent { &REFUSED_BY_SES } else { &[] })
            })
    }

    async fn send_text(&self, number: &str, text: &str) -> Result<(), CourierError> {
        // Transactional messages are delivered even where promotional messages are blocked.
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

/// Converts the error of an SDK builder, which contains only the name of a missing field.
fn unbuilt(error: impl std::error::Error + Send + Sync + 'static) -> CourierError {
    CourierError::Failed(Failure::Internal(Box::new(error)))
}
