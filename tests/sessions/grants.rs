//! The data of a session and its user in the responses of login and refresh
//! (docs/design/contract.md#create-session).

use aws_sdk_dynamodb::types::AttributeValue;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward::route::Function;
use e2e::event;
use local::TABLE;

use super::*;

/// A response without the members that differ between two tokens of one session.
fn lasting(answer: &Answer) -> Value {
    let mut data = answer.body["data"].clone();
    let members = data.as_object_mut().unwrap();
    for name in ["token", "refreshToken", "expiresAt", "message", "deviceProof"] {
        members.remove(name);
    }
    data
}

fn claims(answer: &Answer) -> Value {
    let payload = answer.data("token").split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

// docs/design/contract.md#create-session
#[tokio::test]
async fn login_refresh_and_replay_return_the_same_session_and_user() {
    let world = World::start().await.unwrap();
    for name in [NORDIC_ADMIN, MARCUS] {
        let actor = world.actor(name).unwrap();
        let body = actor.credentials(&actor.user.password);
        let mut event = event(&Method::POST, &actor.sessions(), NORDIC, None, Some(&body));
        event["headers"]["idempotency-key"] = json!(name);
        event["headers"]["platform"] = json!("macOS");
        let event = event.to_string();
        let created = world.send(Function::CreateSession, &event).await.unwrap();
        assert_eq!(created.status, 200, "{}", created.text);
        world.clock.advance(Duration::from_secs(1));
        let replayed = world.send(Function::CreateSession, &event).await.unwrap();
        let refreshed = world.refresh(&Login::from_answer(&actor, &created).unwrap()).await.unwrap();
        assert_eq!(lasting(&created), lasting(&replayed));
        assert_eq!(lasting(&created), lasting(&refreshed));

        let data = lasting(&created);
        let customer = actor.user.customer_id.as_deref();
        let record = world.user(&actor).await.unwrap();
        let time = |at| format!("{at:.3}");
        let user = json!({
            "id": actor.user.user_id, "username": name, "customerId": customer,
            "organizationId": actor.user.organization_id, "email": name, "roles": actor.user.roles,
            "isActive": true, "createdAt": time(record.created_at), "updatedAt": time(record.changed_at),
            "tenantId": NORDIC,
        });
        assert_eq!(data["user"], user);
        assert_eq!((&data["tenantId"], &data["roles"]), (&json!(NORDIC), &json!(actor.user.roles)));
        let (owner, absent) = if customer.is_some() {
            ("customerId", "organizationId")
        } else {
            ("organizationId", "customerId")
        };
        assert_eq!(data[owner], json!(customer.unwrap_or(&actor.user.organization_id)));
        assert!(data.get(absent).is_none(), "{data}");
        let created_at = data["sessionMetadata"]["createdAt"].clone();
        let metadata = json!({
            "clientIp": "127.0.0.1", "clientPlatform": "macOS", "userAgent": "e2e/1.0", "createdAt": created_at,
        });
        assert_eq!(data["sessionMetadata"], metadata);

        let claims = claims(&refreshed);
        assert_eq!((&claims["sessionId"], &claims["sid"]), (&data["sessionId"], &data["sessionId"]));
        assert_eq!(claims["customerId"], data[owner]);
        assert_eq!(claims["orgId"], if customer.is_some() { Value::Null } else { data[owner].clone() });
    }
}

// docs/design/contract.md#create-session: earlier versions stored fewer attributes.
#[tokio::test]
async fn metadata_that_a_session_does_not_store_is_null() {
    let world = World::start().await.unwrap();
    let login = world.login(&world.actor(MARCUS).unwrap()).await.unwrap();
    let key = |name: &str| format!("T#{NORDIC}#U#{}{name}", login.actor.user.user_id);
    let update = |sk: String, update: &str| {
        let item = world.dynamodb.update_item().table_name(TABLE).key("pk", AttributeValue::S(key("")));
        item.key("sk", AttributeValue::S(sk)).update_expression(update).send()
    };
    update(format!("S#{}", login.session), "REMOVE client_ip, user_agent, platform").await.unwrap();
    update("USER".to_owned(), "REMOVE email").await.unwrap();
    let refreshed = world.refresh(&login).await.unwrap();
    let data = lasting(&refreshed);
    for name in ["clientIp", "clientPlatform", "userAgent"] {
        assert_eq!(data["sessionMetadata"].get(name), Some(&Value::Null), "{data}");
    }
    assert!(data["sessionMetadata"]["createdAt"].is_string());
    assert_eq!(data["user"].get("email"), Some(&Value::Null));
}
