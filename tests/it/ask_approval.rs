//! Stories of an assistant that asks a person about a step before it begins with it.

use crate::tools::{keep, uses};
use serde_json::json;
use tests::{World, soon};

#[tokio::test]
async fn a_person_is_asked_at_every_level_and_a_yes_allows_nothing() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    world.law(1, policy::Level::L3).await;
    let mut owner = tenant.chat().await;
    let step = json!({ "summary": "APPROVE THIS NOW", "what": "git push --force", "reason": "The history is wrong" });
    for (number, answer) in ["approve", "deny"].into_iter().enumerate() {
        let (plugin, asked) = (tenant.gateway.clone(), step.clone());
        let id = format!("c{number}");
        let held = tokio::spawn(async move { plugin.decide("r", "t", &id, "gatehouse__ask_approval", &asked).await });
        let question = owner.question().await;
        assert_eq!(
            (&question["rule"], &question["class"], &question["external"], &question["unknown"]),
            (&json!("person.asked"), &json!("yellow"), &json!(false), &json!(false))
        );
        let title = question["sentence"].to_string();
        assert!(title.contains("allows nothing yet") && !title.contains("APPROVE"), "the title is the rule's: {title}");
        assert!(question["details"].as_array().unwrap().contains(&json!({ "name": "summary", "value": "APPROVE THIS NOW" })), "{question}");
        let mut given = json!({ "id": question["id"], "digest": question["digest"], "decision": answer });
        if answer == "deny" {
            given["reason"] = json!("not on a Friday");
        }
        assert_eq!(owner.call("approvals.decide", given).await["ok"], true);
        let heard = soon(held).await.unwrap().json();
        match answer {
            "approve" => {
                assert_eq!(heard["allow"], true);
                let (said, is_error) = uses(&tenant, "ask_approval", step.clone()).await;
                assert!(!is_error && said.contains("said yes") && said.contains("allows nothing by itself"), "{said}");
            }
            _ => assert!(heard["allow"] == false && heard["reason"].as_str().unwrap().contains("not on a Friday"), "{heard}"),
        }
    }
    assert!(uses(&tenant, "ask_approval", step).await.0.contains("nobody was asked"), "one answer is for one question");
    // The step itself is still asked about.
    let plugin = tenant.gateway.clone();
    let held = tokio::spawn(async move { plugin.decide("r", "t", "push", "gatehouse__exec", &json!({ "command": "git push --force" })).await });
    let question = owner.question().await;
    assert_eq!(question["tool"], "gatehouse__exec");
    owner.decide(&question, "deny").await;
    assert_eq!(soon(held).await.unwrap().json()["allow"], false);
    tenant.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_person_is_shown_no_secret_and_sent_none() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let value = format!("Kirsch{}Baum-{}", 7, &service::random::token()[..12]);
    keep(&tenant, "db", &value, &["ask_approval"], &[]).await;
    let mut owner = tenant.chat().await;
    let step = json!({ "summary": "log in", "what": format!("with {value} and SECRET_REF(db)") });
    let (plugin, asked) = (tenant.gateway.clone(), step.clone());
    let held = tokio::spawn(async move { plugin.decide("r", "t", "c1", "gatehouse__ask_approval", &asked).await });
    let question = owner.question().await;
    assert!(!question.to_string().contains(&value), "{question}");
    owner.decide(&question, "approve").await;
    soon(held).await.unwrap();
    let (said, is_error) = uses(&tenant, "ask_approval", step).await;
    assert!(is_error && said.contains("cannot go to people") && !said.contains(&value), "{said}");
    tenant.end().await;
    world.end().await;
}
