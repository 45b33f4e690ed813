//! Messages whose code is not readable yet: the stream may report a message before a read returns the code
//! item of the same transaction.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use super::*;

type Item = HashMap<String, AttributeValue>;

fn code_key(user: &str) -> Item {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let pk = ("pk".to_owned(), text(&format!("T#{NORDIC}#U#{user}")));
    Item::from([pk, ("sk".to_owned(), text("CODE#password"))])
}

async fn code_item(world: &World, user: &str) -> Result<Option<Item>> {
    let read = world.dynamodb.get_item().table_name(local::TABLE).set_key(Some(code_key(user)));
    Ok(read.consistent_read(true).send().await?.item)
}

async fn set_code_item(world: &World, user: &str, item: Option<Item>) -> Result<()> {
    let table = local::TABLE;
    match item {
        Some(item) => {
            world.dynamodb.put_item().table_name(table).set_item(Some(item)).send().await?;
        }
        None => {
            world.dynamodb.delete_item().table_name(table).set_key(Some(code_key(user))).send().await?;
        }
    }
    Ok(())
}

/// Queues a code, and hides its item behind the item of the code before. Returns the hidden item.
async fn queue_hidden(world: &World, user: &str) -> Result<(Queued, Item)> {
    let before = code_item(world, user).await?;
    let queued = world.queue_code(NORDIC, user, Medium::Mail, None).await?;
    let hidden = code_item(world, user).await?.context("the code was not stored")?;
    set_code_item(world, user, before).await?;
    Ok((queued, hidden))
}

// docs/design/security.md#rule-19
#[tokio::test(flavor = "multi_thread")]
async fn code_is_sent_when_its_item_becomes_readable() -> Result<()> {
    for has_earlier_code in [false, true] {
        let (world, user) = start().await?;
        if has_earlier_code {
            world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
        }
        let (Queued { key, code }, hidden) = queue_hidden(&world, &user).await?;
        assert_eq!(
            world.deliver(&batch(std::slice::from_ref(&key))).await,
            json!({ "batchItemFailures": [{ "itemIdentifier": "100" }] }),
            "{has_earlier_code}"
        );
        let event = world.audit.last();
        assert_eq!(event["outcome"], "CODE_NOT_READABLE", "{event}");
        assert_eq!((&event["Deferred"], &event["Failed"]), (&json!(1), &json!(null)), "{event}");
        assert_eq!(world.courier.take(), []);
        assert!(is_waiting(&world, &key).await?);
        set_code_item(&world, &user, Some(hidden)).await?;
        assert_eq!(world.deliver_all(std::slice::from_ref(&key)).await, 0);
        let sent = world.courier.take();
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert!(sent[0].text().contains(code.expose()));
        assert!(!is_waiting(&world, &key).await?);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn message_without_a_readable_code_expires() -> Result<()> {
    let (world, user) = start().await?;
    let (Queued { key, .. }, _) = queue_hidden(&world, &user).await?;
    world.clock.advance(LIFE - Duration::from_millis(1));
    assert_eq!(world.deliver_all(std::slice::from_ref(&key)).await, 1);
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(world.deliver_all(std::slice::from_ref(&key)).await, 0);
    assert_eq!(world.audit.last()["outcome"], "EXPIRED");
    assert!(!is_waiting(&world, &key).await?);
    assert_eq!(world.courier.take(), []);
    Ok(())
}
