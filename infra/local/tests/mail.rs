//! Embedded SES, SNS and EventBridge, called with the real SDK.

#![expect(clippy::unwrap_used, reason = "test code outside #[test] functions")]

use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_sesv2::types::{Body, Content, Destination, EmailContent, Message, MessageHeader};
use local::{
    clients,
    mail::{EmbeddedMail, REFUSED_BUS, REFUSED_NUMBER},
    mailbox::{Content as Kept, Fault, Mailbox},
};

const LINK: &str = "https://app.nordic.example/set?user=u%231&code=K7QW";

async fn start() -> EmbeddedMail {
    EmbeddedMail::start(Mailbox::default()).await.unwrap()
}

fn content(text: &str) -> Content {
    Content::builder().data(text).charset("UTF-8").build().unwrap()
}

fn mail(to: &str) -> (Destination, EmailContent) {
    let html = format!("<p><a href=\"{}\">Set it</a></p>", LINK.replace('&', "&amp;"));
    let message = Message::builder()
        .subject(content("Kodeord – nulstil"))
        .body(Body::builder().text(content(&format!("Open {LINK}."))).html(content(&html)).build())
        .headers(MessageHeader::builder().name("Auto-Submitted").value("auto-generated").build().unwrap())
        .build();
    (Destination::builder().to_addresses(to).build(), EmailContent::builder().simple(message).build())
}

async fn send(
    mail_service: &EmbeddedMail,
    to: &str,
) -> Result<String, aws_sdk_sesv2::operation::send_email::SendEmailError> {
    let (destination, content) = mail(to);
    clients::ses(mail_service.ses_url())
        .send_email()
        .from_email_address("Nordic Bank <no-reply@nordic.example>")
        .destination(destination)
        .content(content)
        .send()
        .await
        .map(|sent| sent.message_id.unwrap())
        .map_err(aws_sdk_sesv2::error::SdkError::into_service_error)
}

#[tokio::test]
async fn mail_is_kept_with_both_parts_and_its_link() {
    let service = start().await;
    assert_eq!(send(&service, "Marcus <marcus@example.com>").await.unwrap(), "local-1");
    let mails = service.mailbox().mails();
    let [mail] = &mails[..] else { panic!("{mails:?}") };
    assert_eq!(mail.from, "Nordic Bank <no-reply@nordic.example>");
    assert_eq!(mail.to, ["Marcus <marcus@example.com>"]);
    assert_eq!(mail.subject, "Kodeord – nulstil");
    assert_eq!(mail.headers, [("Auto-Submitted".to_owned(), "auto-generated".to_owned())]);
    assert!(mail.text.as_deref().unwrap().contains(LINK));
    assert!(mail.html.as_deref().unwrap().contains("&amp;code="));
    assert_eq!(mail.links, [LINK]);
}

#[tokio::test]
async fn rejected_recipient_gives_the_error_of_the_sdk() {
    let service = start().await;
    let error = send(&service, "Nobody <nobody@refused.example>").await.unwrap_err();
    assert!(error.is_message_rejected(), "{error:?}");
    let error = send(&service, "no address").await.unwrap_err();
    assert!(error.is_bad_request_exception(), "{error:?}");
    assert!(service.mailbox().messages().is_empty());
}

#[tokio::test]
async fn unsupported_operation_is_rejected_by_name() {
    let service = start().await;
    let raw = aws_sdk_sesv2::types::RawMessage::builder()
        .data(aws_sdk_sesv2::primitives::Blob::new(b"From: a"))
        .build()
        .unwrap();
    let error = clients::ses(service.ses_url())
        .send_email()
        .from_email_address("a@b.example")
        .destination(Destination::builder().to_addresses("a@b.example").build())
        .content(EmailContent::builder().raw(raw).build())
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert!(error.is_bad_request_exception());
    assert!(error.to_string().contains("Raw") || format!("{error:?}").contains("Raw"), "{error:?}");
    let error = clients::ses(service.ses_url()).get_account().send().await.unwrap_err().into_service_error();
    assert!(format!("{error:?}").contains("only SendEmail"), "{error:?}");
}

#[tokio::test]
async fn requested_failures_occur_the_requested_number_of_times() {
    let service = start().await;
    // The SDK makes three attempts.
    service.mailbox().fail_next(2, Fault::Unavailable);
    send(&service, "a@b.example").await.unwrap();
    assert_eq!(service.mailbox().messages().len(), 1);

    service.mailbox().fail_next(3, Fault::Throttled);
    let error = send(&service, "a@b.example").await.unwrap_err();
    assert!(error.is_too_many_requests_exception(), "{error:?}");
    assert_eq!(service.mailbox().messages().len(), 1);

    service.mailbox().fail_next(1, Fault::AnswerLost);
    send(&service, "a@b.example").await.unwrap();
    assert_eq!(service.mailbox().messages().len(), 3);
}

#[tokio::test]
async fn text_message_is_kept_and_invalid_numbers_are_rejected() {
    let service = start().await;
    let client = clients::sns(service.sns_url());
    let text = "Nordic Bank: æøå K7QW-93XD https://n.example/p";
    client.publish().phone_number("+4512345678").message(text).send().await.unwrap();
    let kept = service.mailbox().message(1).unwrap();
    let Kept::TextMessage(message) = &kept.content else { panic!("{kept:?}") };
    assert_eq!(message.phone_number, "+4512345678");
    assert_eq!(message.text, text);
    assert_eq!(message.links, ["https://n.example/p"]);

    for number in [REFUSED_NUMBER, "12345678", "+45 12 34"] {
        let refused = client.publish().phone_number(number).message("x").send().await;
        let error = refused.unwrap_err().into_service_error();
        assert!(error.is_invalid_parameter_exception(), "{number}: {error:?}");
    }
    client.publish().topic_arn("arn:aws:sns:us-east-1:1:t").message("x").send().await.unwrap_err();
    client.list_topics().send().await.unwrap_err();
    assert_eq!(service.mailbox().messages().len(), 1);
}

#[tokio::test]
async fn each_event_is_accepted_or_rejected_separately() {
    let service = start().await;
    let client = clients::eventbridge(service.events_url());
    let entry = |bus: &str, detail: &str| {
        PutEventsRequestEntry::builder()
            .event_bus_name(bus)
            .source("doorward")
            .detail_type("PasswordResetRequested")
            .detail(detail)
            .build()
    };
    let sent = client
        .put_events()
        .entries(entry("tenant-bus", r#"{"userId":"u"}"#))
        .entries(entry(REFUSED_BUS, "{}"))
        .entries(entry("tenant-bus", "no json"))
        .send()
        .await
        .unwrap();
    assert_eq!(sent.failed_entry_count(), 2);
    let codes: Vec<_> = sent.entries().iter().map(|entry| entry.error_code()).collect();
    assert_eq!(codes, [None, Some("InvalidArgument"), Some("MalformedDetail")]);
    let kept = service.mailbox().messages();
    let [kept] = &kept[..] else { panic!("{kept:?}") };
    let Kept::Event(event) = &kept.content else { panic!("{kept:?}") };
    assert_eq!((event.bus.as_str(), event.detail_type.as_str()), ("tenant-bus", "PasswordResetRequested"));
    assert_eq!(event.detail["userId"], "u");
    client.list_event_buses().send().await.unwrap_err();
}
