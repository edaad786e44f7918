//! What a device can say, and what nobody can say in its place.

use super::signer::Signer;
use super::*;
use crate::approvals::{self, Approvals, Asked, Drawn, Given, Question};
use crate::levels::Levels;
use crate::pauses::Pauses;
use crate::people::{May, People, Person};
use crate::store::MIGRATIONS;
use policy::{Class, Finding};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use service::store::StoreError;
use service::text::Language;
use std::sync::LazyLock;
use tokio::runtime::Runtime;
use wire::ApprovalId;
use wire::approval::{Approval, ApprovalState, Decision};

const ORIGIN: &str = "http://alice.localhost:8410";
const BEGIN_MS: i64 = 1_795_140_000_000;
const PASSWORD: &str = "correct horse battery";

struct Rig {
    store: Store,
    clock: Clock,
    people: People,
    devices: Devices,
    approvals: Approvals,
    owner: Person,
    key: Signer,
    device: DeviceId,
    folder: std::path::PathBuf,
}

impl Rig {
    async fn new() -> Rig {
        let folder = std::env::temp_dir().join(random::token());
        std::fs::create_dir_all(&folder).unwrap();
        let store = Store::open(&folder.join("a.db"), MIGRATIONS).unwrap();
        let clock = Clock::manual(BEGIN_MS);
        let people = People::new(store.clone(), clock.clone());
        let devices = Devices::new(store.clone(), clock.clone(), TenantId::new(1), ORIGIN);
        let key = Signer::new(DeviceKind::Key, ORIGIN);
        let token = people.first_link().await.unwrap().unwrap();
        let (proved, device) = (devices.proved(key.candidate(&token), &token).unwrap(), random::id());
        let also = move |tx: &Tx, person, now_ms| insert_first(tx, person, device, &proved, now_ms);
        let (owner, _) = people.first(&token, "Owner", SecretString::new(PASSWORD.into()), Language::En, also).await.unwrap();
        let (levels, pauses) = (Levels::new(store.clone(), clock.clone()), Pauses::new(store.clone(), clock.clone()));
        let approvals = Approvals::new(store.clone(), clock.clone(), levels, pauses);
        Rig { store, clock, people, devices, approvals, owner, key, device, folder }
    }

    async fn person(&self, name: &str, role: Role) -> Person {
        self.people.add("console", name, SecretString::new(PASSWORD.into()), role, Language::En).await.unwrap()
    }

    async fn asked(&self, class: Class, command: &str) -> Approval {
        let arguments = serde_json::json!({ "command": command });
        let call = policy::Call { assistant: "a", tool: "exec", arguments: &arguments, workspace: "/w", resolved: &[] };
        let question = Question {
            assistant: wire::AssistantId::new(1),
            session: "agent:main:main".into(),
            call_id: "call_1".into(),
            tool: "exec".into(),
            finding: Finding { class, unknown: false, external: false, ..Finding::unknown("test") },
            details: vec![],
            digest: policy::digest(&call, &[]),
        };
        let now_ms = self.clock.wall_ms();
        let asked = self.store.write(move |tx| Ok::<_, StoreError>(approvals::ask(tx, &question, Drawn::now(), now_ms)?)).await.unwrap();
        match asked {
            Asked::Waiting { approval, .. } | Asked::Granted(approval) => approval,
            Asked::TooMany => panic!("too many"),
        }
    }

    fn says(&self, deed: Deed) -> Statement {
        let expires_ms = self.clock.wall_ms() + 300_000;
        Statement { tenant: TenantId::new(1), person: self.owner.id, device: self.device, deed, expires_ms, nonce: random::token() }
    }

    fn yes(&self, approval: &Approval) -> Statement {
        self.says(Deed::Decide {
            approval: approval.id,
            digest: approval.digest.clone(),
            decision: Decision::Approve,
            reason: String::new(),
            number: approval.number.clone(),
        })
    }

    /// By the very way that the doors take.
    async fn decide(&self, signed: Signed, password: bool) -> Result<ApprovalState, &'static str> {
        let heard = self.devices.heard(signed).await.map_err(|refusal| refusal.code)?;
        self.approvals.decide_signed(heard, password).await.map(|approval| approval.state).map_err(|refusal| refusal.code)
    }

    async fn state(&self, id: ApprovalId) -> ApprovalState {
        self.approvals.get(id).await.unwrap().unwrap().state
    }

    async fn enrol(&self, person: PersonId, candidate: Candidate, ticket: Ticket) -> Result<DeviceId, &'static str> {
        self.devices.enrol(person, candidate, ticket).await.map_err(|refusal| refusal.code)
    }

    async fn obeyed(&self, statement: &Statement) -> Result<Vec<String>, &'static str> {
        let heard = self.devices.heard(self.key.signed(statement)).await.map_err(|refusal| refusal.code)?;
        self.devices.obey(heard).await.map_err(|refusal| refusal.code)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

#[tokio::test]
async fn a_signature_counts_once_and_only_for_what_it_says() {
    let rig = Rig::new().await;
    let asked = rig.asked(Class::Red, "git push --force").await;
    let other = rig.asked(Class::Red, "git push --force origin").await;
    let member = rig.person("Member", Role::Member).await;
    let stranger = Signer::new(DeviceKind::Key, ORIGIN);
    let said = rig.yes(&asked);
    let mut cases: Vec<(&str, Signed)> = Vec::new();
    let mut case = |code, change: &dyn Fn(&mut Statement)| {
        let mut statement = said.clone();
        change(&mut statement);
        cases.push((code, rig.key.signed(&statement)));
    };
    case("statement_foreign", &|said| said.tenant = TenantId::new(2));
    case("statement_late", &|said| said.expires_ms = BEGIN_MS);
    case("statement_late", &|said| said.expires_ms = BEGIN_MS + STATEMENT_LIFE_MS + 1);
    case("statement_late", &|said| said.expires_ms = i64::MIN);
    case("statement_malformed", &|said| said.nonce = "short".into());
    case("device_unknown", &|said| said.device = DeviceId::new(3));
    case("device_unknown", &|said| said.person = member.id);
    cases.push(("statement_unproved", stranger.signed(&said)));
    let moved = |change: &dyn Fn(&mut Statement)| {
        let mut statement = said.clone();
        change(&mut statement);
        Signed { proof: rig.key.signed(&said).proof, statement: rig.key.signed(&statement).statement }
    };
    cases.push(("statement_unproved", moved(&|said| said.nonce = random::token())));
    cases.push(("statement_unproved", moved(&|said| said.deed = rig.yes(&other).deed)));
    let respelt = rig.key.signed(&said).statement.replacen(':', ": ", 1);
    let respelt = Signed { proof: rig.key.prove(&proof::signed_text(&respelt)), statement: respelt };
    cases.push(("statement_malformed", respelt));
    let without_domain = Signed { proof: rig.key.prove(&rig.key.signed(&said).statement), statement: rig.key.signed(&said).statement };
    cases.push(("statement_unproved", without_domain));
    let as_passkey = Signer::new(DeviceKind::Passkey, ORIGIN).signed(&said);
    cases.push(("statement_unproved", as_passkey));
    for (code, signed) in cases {
        assert_eq!(rig.decide(signed.clone(), true).await, Err(code), "{}", signed.statement);
        assert_eq!(rig.state(asked.id).await, ApprovalState::Pending);
    }
    // About a digest that is not the question's, by a valid device.
    let mut changed = rig.yes(&asked);
    let Deed::Decide { digest, .. } = &mut changed.deed else { unreachable!() };
    *digest = other.digest.clone();
    assert_eq!(rig.decide(rig.key.signed(&changed), true).await, Err("approval_changed"));

    let signed = rig.key.signed(&said);
    assert_eq!(rig.decide(signed.clone(), false).await, Ok(ApprovalState::Approved));
    assert_eq!(rig.decide(signed.clone(), false).await, Err("statement_replayed"));
    assert_eq!(rig.decide(rig.key.signed(&rig.yes(&asked)), false).await, Err("approval_decided"), "and the first answer stands");
    rig.clock.advance(300_000);
    assert_eq!(rig.decide(signed.clone(), false).await, Err("statement_late"));
    let another = rig.asked(Class::Red, "another").await;
    assert_eq!(rig.decide(rig.key.signed(&rig.yes(&another)), false).await, Ok(ApprovalState::Approved));
    rig.clock.jump_wall(-600_000);
    assert_eq!(rig.decide(signed, false).await, Err("statement_replayed"), "nor does a clock that is set back help");
}

#[tokio::test]
async fn the_class_says_how_much_must_stand_behind_a_yes() {
    let rig = Rig::new().await;
    let session = |approval: &Approval, decision| {
        let given = Given { digest: approval.digest.clone(), decision, reason: String::new(), number: approval.number.clone() };
        let (approvals, by, id) = (rig.approvals.clone(), rig.owner.id, approval.id);
        async move { approvals.decide(by, id, given).await.map(|approval| approval.state).map_err(|refusal| refusal.code) }
    };
    let yellow = rig.asked(Class::Yellow, "yellow").await;
    assert_eq!(session(&yellow, Decision::Approve).await, Ok(ApprovalState::Approved));
    let red = rig.asked(Class::Red, "red").await;
    assert_eq!(session(&red, Decision::Approve).await, Err("approval_needs_signature"));
    assert_eq!(session(&red, Decision::ApproveDay).await, Err("approval_once_only"));
    assert_eq!(rig.decide(rig.key.signed(&rig.yes(&red)), false).await, Ok(ApprovalState::Approved));
    let critical = rig.asked(Class::CriticalRed, "critical").await;
    assert_eq!(session(&critical, Decision::Approve).await, Err("approval_needs_signature"));
    assert_eq!(rig.decide(rig.key.signed(&rig.yes(&critical)), false).await, Err("approval_needs_more"));
    let mut blind = rig.yes(&critical);
    let Deed::Decide { number, .. } = &mut blind.deed else { unreachable!() };
    number.clear();
    assert_eq!(rig.decide(rig.key.signed(&blind), true).await, Err("approval_number_wrong"));
    assert_eq!(rig.decide(rig.key.signed(&rig.yes(&critical)), true).await, Ok(ApprovalState::Approved));

    let passkey = Signer::new(DeviceKind::Passkey, ORIGIN);
    let vouching = rig.says(Deed::AddDevice { key: passkey.public_key() });
    let ticket = Ticket::Device { signed: rig.key.signed(&vouching) };
    let device = rig.enrol(rig.owner.id, passkey.candidate(&vouching.nonce), ticket).await.unwrap();
    let by_passkey = |signer: &Signer, approval: &Approval| {
        let Deed::Decide { approval, digest, decision, .. } = rig.yes(approval).deed else { unreachable!() };
        signer.signed(&Statement { device, ..rig.says(Deed::Decide { approval, digest, decision, reason: String::new(), number: String::new() }) })
    };
    let critical = rig.asked(Class::CriticalRed, "another").await;
    let mut touched = passkey;
    touched.flags = 0x01;
    assert_eq!(rig.decide(by_passkey(&touched, &critical), true).await, Err("approval_needs_more"), "a touch alone does not know its person");
    touched.flags = 0x04;
    assert_eq!(rig.decide(by_passkey(&touched, &critical), true).await, Err("statement_unproved"), "nobody was there");
    touched.flags = 0x05;
    touched.origin = "http://bob.localhost:8410".into();
    assert_eq!(rig.decide(by_passkey(&touched, &critical), true).await, Err("statement_unproved"), "asserted on another tenant's page");
    touched.origin = ORIGIN.into();
    touched.count = 7;
    assert_eq!(rig.decide(by_passkey(&touched, &critical), false).await, Ok(ApprovalState::Approved));
    let another = rig.asked(Class::Red, "with a copy").await;
    touched.count = 7;
    assert_eq!(rig.decide(by_passkey(&touched, &another), false).await, Err("device_copied"));
    touched.count = 8;
    assert_eq!(rig.decide(by_passkey(&touched, &another), false).await, Ok(ApprovalState::Approved));
}

/// Rounds of as many answers at once.
const RACES: usize = 50;
const RACERS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_answers_at_once_one_stands_and_runs_once() {
    let rig = Rig::new().await;
    for n in 0..RACES {
        let asked = rig.asked(Class::Red, &format!("race {n}")).await;
        let same = rig.key.signed(&rig.yes(&asked));
        // Half of them are the same statement again, half are others of the same device.
        let answers = (0..RACERS).map(|racer| {
            let signed = if racer % 2 == 0 { same.clone() } else { rig.key.signed(&rig.yes(&asked)) };
            rig.decide(signed, false)
        });
        let answers = futures_util::future::join_all(answers).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
        assert!(answers.iter().flat_map(|answer| answer.err()).all(|code| code == "statement_replayed" || code == "approval_decided"), "{answers:?}");
        let uses = (0..RACERS).map(|_| {
            let id = asked.id;
            rig.store.write(move |tx| Ok::<_, StoreError>(approvals::use_up(tx, id, "call_1")?.is_some()))
        });
        let used = futures_util::future::join_all(uses).await;
        assert_eq!(used.into_iter().filter(|used| *used.as_ref().unwrap()).count(), 1);
    }
}

#[tokio::test]
async fn only_what_the_browser_says_about_this_text_on_this_page_is_an_assertion() {
    let passkey = Signer::new(DeviceKind::Passkey, ORIGIN);
    let key = PublicKey::parse(&passkey.public_key()).unwrap();
    let place = Place { origin: ORIGIN.into() };
    let challenge = random::base64url(ring::digest::digest(&ring::digest::SHA256, b"text").as_ref());
    let check = |client_data: serde_json::Value| proof::strength("text", DeviceKind::Passkey, &key, &passkey.assert(&client_data.to_string()), &place);
    let said = |kind: &str, challenge: &str, origin: &str, cross: bool| serde_json::json!({ "type": kind, "challenge": challenge, "origin": origin, "crossOrigin": cross });
    assert_eq!(check(said("webauthn.get", &challenge, ORIGIN, false)), Some(Strength::Passkey { verified: true, count: 0 }));
    for client_data in [
        said("webauthn.create", &challenge, ORIGIN, false),
        said("payment.get", &challenge, ORIGIN, false),
        said("webauthn.get", "", ORIGIN, false),
        said("webauthn.get", &challenge[1..], ORIGIN, false),
        said("webauthn.get", &challenge, "https://alice.localhost:8410", false),
        said("webauthn.get", &challenge, "http://alice.localhost", false),
        said("webauthn.get", &challenge, &format!("{ORIGIN}.evil.example"), false),
        said("webauthn.get", &challenge, ORIGIN, true),
        serde_json::json!({ "challenge": challenge, "origin": ORIGIN }),
        serde_json::json!(["webauthn.get", challenge, ORIGIN]),
    ] {
        assert_eq!(check(client_data.clone()), None, "{client_data}");
    }
}

#[tokio::test]
async fn another_device_comes_in_by_one_that_is_there_or_by_a_code() {
    let rig = Rig::new().await;
    let (owner, approver, other) = (rig.owner.id, rig.person("Approver", Role::Approver).await, rig.person("Other", Role::Approver).await);
    let fresh = || Signer::new(DeviceKind::Key, ORIGIN);
    let by_code = |code: &str| Ticket::Code { code: code.to_owned() };
    assert_eq!(rig.enrol(owner, fresh().candidate("reset"), Ticket::Reset {}).await, Err("device_needs_ticket"));
    assert_eq!(rig.enrol(owner, fresh().candidate("x"), by_code("x")).await, Err("device_code_wrong"));

    // A vouching for another key, for another person, or for another use.
    let (second, third) = (fresh(), fresh());
    let vouching = rig.says(Deed::AddDevice { key: second.public_key() });
    let ticket = || Ticket::Device { signed: rig.key.signed(&vouching) };
    assert_eq!(rig.enrol(owner, third.candidate(&vouching.nonce), ticket()).await, Err("device_needs_ticket"));
    assert_eq!(rig.enrol(approver.id, second.candidate(&vouching.nonce), ticket()).await, Err("device_needs_ticket"));
    assert_eq!(rig.enrol(owner, second.candidate("another nonce"), ticket()).await, Err("device_key_wrong"));
    assert!(rig.enrol(owner, second.candidate(&vouching.nonce), ticket()).await.is_ok());
    assert_eq!(rig.enrol(owner, second.candidate(&vouching.nonce), ticket()).await, Err("statement_replayed"));

    // An owner lets an approver's device in; nobody else's, and once.
    let code = rig.obeyed(&rig.says(Deed::MintCode { person: approver.id })).await.unwrap().remove(0);
    let (theirs, again) = (fresh(), fresh());
    assert_eq!(rig.enrol(other.id, theirs.candidate(&code), by_code(&code)).await, Err("device_code_wrong"));
    assert_eq!(
        rig.enrol(approver.id, theirs.candidate("another code"), by_code(&code)).await,
        Err("device_key_wrong"),
        "the key was not brought for this code"
    );
    let device = rig.enrol(approver.id, theirs.candidate(&code), by_code(&code)).await.unwrap();
    assert_eq!(rig.enrol(approver.id, again.candidate(&code), by_code(&code)).await, Err("device_code_wrong"), "a code works once");
    let theirs_says = |deed| Statement { person: approver.id, device, ..rig.says(deed) };
    let heard = |statement: Statement| {
        let signed = theirs.signed(&statement);
        async { rig.devices.obey(rig.devices.heard(signed).await?).await }
    };
    assert_eq!(heard(theirs_says(Deed::MintCode { person: owner })).await, Err(Refusal::FORBIDDEN), "only an owner acts for others");
    assert_eq!(heard(theirs_says(Deed::RemoveDevice { device: rig.device })).await, Err(Refusal::FORBIDDEN));

    // A removed device is none, at once, and its key does not come back.
    let asked = rig.asked(Class::Red, "red").await;
    let Deed::Decide { approval, digest, decision, reason, number } = rig.yes(&asked).deed else { unreachable!() };
    let late = theirs.signed(&theirs_says(Deed::Decide { approval, digest, decision, reason, number }));
    rig.obeyed(&rig.says(Deed::RemoveDevice { device })).await.unwrap();
    assert_eq!(rig.decide(late, false).await, Err("device_unknown"));
    let code = rig.devices.console_code(approver.id).await.unwrap();
    assert_eq!(rig.enrol(approver.id, theirs.candidate(&code), by_code(&code)).await, Err("device_known"));
    assert!(rig.enrol(approver.id, again.candidate(&code), by_code(&code)).await.is_ok(), "a refused try leaves the code as it was");
    let late_code = rig.devices.console_code(other.id).await.unwrap();
    rig.clock.advance(CONSOLE_CODE_LIFE_MS as u64);
    assert_eq!(rig.enrol(other.id, fresh().candidate(&late_code), by_code(&late_code)).await, Err("device_code_wrong"));
}

#[tokio::test]
async fn a_signature_does_not_reach_beyond_its_persons_assistants() {
    let rig = Rig::new().await;
    let approver = rig.person("Approver", Role::Approver).await;
    let code = rig.devices.console_code(approver.id).await.unwrap();
    let key = Signer::new(DeviceKind::Key, ORIGIN);
    let device = rig.enrol(approver.id, key.candidate(&code), Ticket::Code { code: code.clone() }).await.unwrap();
    let asked = rig.asked(Class::Red, "red").await;
    let says = |approval: &Approval| key.signed(&Statement { person: approver.id, device, ..rig.yes(approval) });
    let (theirs, other) = (asked.assistant, wire::AssistantId::new(9));
    for only in [vec![(other, May::Decide)], vec![(theirs, May::See), (other, May::Decide)]] {
        rig.people.set_reach(approver.id, only).await.unwrap();
        assert_eq!(rig.decide(says(&asked), false).await, Err("forbidden"));
    }
    let reach = rig.people.reach(approver.id).await.unwrap();
    assert_eq!((reach.sees(theirs), reach.decides(theirs), reach.sees(wire::AssistantId::new(10))), (true, false, false));
    rig.people.set_reach(approver.id, vec![]).await.unwrap();
    assert_eq!(rig.decide(says(&asked), false).await, Ok(ApprovalState::Approved));
}

#[tokio::test]
async fn recovery_codes_work_once_and_guessing_ends_soon() {
    let rig = Rig::new().await;
    let owner = rig.owner.id;
    let old = rig.obeyed(&rig.says(Deed::RecoveryCodes {})).await.unwrap();
    let codes = rig.obeyed(&rig.says(Deed::RecoveryCodes {})).await.unwrap();
    assert_eq!((codes.len(), rig.devices.recovery_codes_left(owner).await.unwrap()), (RECOVERY_CODES, RECOVERY_CODES as i64));
    let try_code = |code: &str| {
        let candidate = Signer::new(DeviceKind::Key, ORIGIN).candidate(code);
        rig.enrol(owner, candidate, Ticket::Code { code: code.to_owned() })
    };
    assert_eq!(try_code(&old[0]).await, Err("device_code_wrong"), "fresh ones end the older ones");
    let typed = codes[0].to_lowercase().replace('-', " ");
    assert!(try_code(&typed).await.is_ok(), "as a person types it");
    assert_eq!(try_code(&codes[0]).await, Err("device_code_wrong"));
    assert_eq!(rig.devices.recovery_codes_left(owner).await.unwrap(), RECOVERY_CODES as i64 - 1);
    let mut other_secret = codes[1].clone();
    other_secret.replace_range(10..11, if &other_secret[10..11] == "0" { "1" } else { "0" });
    assert_eq!(try_code(&other_secret).await, Err("device_code_wrong"));
    assert_eq!(try_code("").await, Err("device_code_wrong"));
    assert_eq!(try_code(&codes[1]).await, Err("login_limited"), "the sixth try waits, even with a right code");
    rig.clock.advance(TRY_WINDOW_MS);
    assert!(try_code(&codes[1]).await.is_ok());
}

#[tokio::test]
async fn a_reset_waits_for_everybody_to_see_it() {
    let rig = Rig::new().await;
    let approver = rig.person("Approver", Role::Approver).await;
    let reset = || rig.enrol(approver.id, Signer::new(DeviceKind::Key, ORIGIN).candidate("reset"), Ticket::Reset {});
    rig.devices.announce_reset(approver.id).await.unwrap();
    assert_eq!(rig.devices.announce_reset(approver.id).await, Err(RESET_ANNOUNCED), "asking again does not shorten it");
    rig.clock.advance(RESET_WAIT_MS as u64 - 1);
    assert_eq!(reset().await, Err("device_needs_ticket"));
    rig.devices.cancel_reset(rig.owner.id, approver.id).await.unwrap();
    rig.clock.advance(1);
    assert_eq!(reset().await, Err("device_needs_ticket"), "an owner has cancelled it");
    rig.devices.announce_reset(approver.id).await.unwrap();
    assert_eq!(rig.devices.cancel_reset(approver.id, rig.owner.id).await, Err(Refusal::FORBIDDEN));
    rig.clock.advance(RESET_WAIT_MS as u64);
    assert!(reset().await.is_ok());
    assert_eq!(reset().await, Err("device_needs_ticket"), "it lets one device in");
    rig.devices.announce_reset(approver.id).await.unwrap();
    rig.clock.advance((RESET_WAIT_MS + RESET_OPEN_MS) as u64);
    assert_eq!(reset().await, Err("device_needs_ticket"), "what nobody uses lapses");
    assert_eq!(rig.devices.resets().await.unwrap(), []);
}

/// What somebody between a device and its agent may do to a signed decision.
#[derive(Clone, Debug)]
enum Attack {
    Statement { at: prop::sample::Index, with: char },
    Signature { at: prop::sample::Index, bit: u8 },
    Cut { at: prop::sample::Index },
    Field { which: u8, value: u128 },
    ForeignKey,
    OtherSignature,
    Empty,
    Doubled { at: prop::sample::Index },
}

fn attacks() -> impl Strategy<Value = Attack> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        3 => (at(), proptest::char::range(' ', '~')).prop_map(|(at, with)| Attack::Statement { at, with }),
        3 => (at(), 0..8u8).prop_map(|(at, bit)| Attack::Signature { at, bit }),
        1 => at().prop_map(|at| Attack::Cut { at }),
        3 => (0..7u8, any::<u128>()).prop_map(|(which, value)| Attack::Field { which, value }),
        1 => Just(Attack::ForeignKey),
        1 => Just(Attack::OtherSignature),
        1 => Just(Attack::Empty),
        1 => at().prop_map(|at| Attack::Doubled { at }),
    ]
}

/// The attacked form of a signed statement; `None` where nothing was changed.
fn attacked(genuine: &Signed, other: &Signed, stranger: &Signer, attack: &Attack) -> Option<Signed> {
    let Proof::Key { signature } = &genuine.proof else { unreachable!() };
    let mut bytes = random::from_base64url(signature).unwrap();
    let mut text = genuine.statement.clone();
    match attack {
        Attack::Statement { at, with } => {
            let at = at.index(text.len());
            text.replace_range(at..=at, &with.to_string());
        }
        Attack::Signature { at, bit } => {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        Attack::Cut { at } => bytes.truncate(at.index(bytes.len())),
        Attack::Field { which, value } => {
            let mut said: Statement = serde_json::from_str(&text).unwrap();
            let id = *value;
            match (which, &mut said.deed) {
                (0, _) => said.tenant = TenantId::new(id),
                (1, _) => said.person = PersonId::new(id),
                (2, _) => said.device = DeviceId::new(id),
                (3, _) => said.expires_ms = said.expires_ms.wrapping_add(id as i64),
                (4, _) => said.nonce = format!("{id:032x}"),
                (5, Deed::Decide { approval, .. }) => *approval = ApprovalId::new(id),
                (6, Deed::Decide { digest, .. }) => *digest = format!("{id:064x}"),
                _ => unreachable!(),
            }
            text = policy::canonical_json(&serde_json::to_value(&said).unwrap());
        }
        Attack::ForeignKey => {
            let Proof::Key { signature } = stranger.prove(&proof::signed_text(&text)) else { unreachable!() };
            bytes = random::from_base64url(&signature).unwrap();
        }
        Attack::OtherSignature => return Some(Signed { statement: text, proof: other.proof.clone() }),
        Attack::Empty => bytes.clear(),
        Attack::Doubled { at } => {
            let at = at.index(bytes.len());
            bytes.insert(at, bytes[at]);
        }
    }
    let changed = Signed { statement: text, proof: Proof::Key { signature: random::base64url(&bytes) } };
    (changed != *genuine).then_some(changed)
}

/// As many as issue and plan ask for. About half a minute in a debug build.
const ATTACKS: u32 = 100_000;

#[test]
fn of_a_hundred_thousand_altered_decisions_none_counts() {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());
    let rig = RUNTIME.block_on(Rig::new());
    let asked = RUNTIME.block_on(rig.asked(Class::CriticalRed, "sudo true"));
    let (genuine, other) = (rig.key.signed(&rig.yes(&asked)), rig.key.signed(&rig.says(Deed::RecoveryCodes {})));
    let stranger = Signer::new(DeviceKind::Key, ORIGIN);
    let mut runner = TestRunner::new(Config { cases: ATTACKS, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&attacks(), |attack| {
        let Some(signed) = attacked(&genuine, &other, &stranger, &attack) else { return Ok(()) };
        prop_assert!(RUNTIME.block_on(rig.decide(signed, true)).is_err());
        Ok(())
    });
    outcome.unwrap();
    RUNTIME.block_on(async {
        assert_eq!(rig.state(asked.id).await, ApprovalState::Pending);
        let used: i64 = rig.store.read(|c| c.query_row("SELECT count(*) FROM used_nonce", [], |row| row.get(0))).await.unwrap();
        assert_eq!(used, 0, "what is forged is not even written down");
        assert_eq!(rig.decide(genuine.clone(), true).await, Ok(ApprovalState::Approved), "the genuine one counts after all of them");
    });
}

/// Twice as many as the passkey probe that the plan was made with.
const MUTATIONS: u32 = 40_000;

#[test]
fn no_bit_of_an_assertion_may_change() {
    let passkey = Signer::new(DeviceKind::Passkey, ORIGIN);
    let (key, place) = (PublicKey::parse(&passkey.public_key()).unwrap(), Place { origin: ORIGIN.into() });
    let genuine = passkey.prove("text");
    assert!(proof::strength("text", DeviceKind::Passkey, &key, &genuine, &place).is_some());
    assert_eq!(proof::strength("another text", DeviceKind::Passkey, &key, &genuine, &place), None);
    let Proof::Passkey { authenticator_data, client_data, signature } = genuine else { unreachable!() };
    let parts = [&authenticator_data, &client_data, &signature].map(|part| random::from_base64url(part).unwrap());
    let mut runner = TestRunner::new(Config { cases: MUTATIONS, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&(0..3usize, any::<prop::sample::Index>(), 0..8u8), |(which, at, bit)| {
        let mut parts = parts.clone();
        let at = at.index(parts[which].len());
        parts[which][at] ^= 1 << bit;
        let [authenticator_data, client_data, signature] = parts.map(|part| random::base64url(&part));
        let proof = Proof::Passkey { authenticator_data, client_data, signature };
        prop_assert_eq!(proof::strength("text", DeviceKind::Passkey, &key, &proof, &place), None);
        Ok(())
    });
    outcome.unwrap();
}

proptest! {
    #[test]
    fn any_text_is_a_statement_or_none_and_any_proof_holds_or_does_not(text in ".{0,400}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(proof::statement(&text), None);
        prop_assert_eq!(PublicKey::parse(&text), None);
        let key = PublicKey::of_point(&[4; 65]).unwrap();
        let place = Place { origin: text.clone() };
        let part = random::base64url(&bytes);
        let passkey = Proof::Passkey { authenticator_data: part.clone(), client_data: part.clone(), signature: part.clone() };
        prop_assert_eq!(proof::strength(&text, DeviceKind::Passkey, &key, &passkey, &place), None);
        prop_assert_eq!(proof::strength(&text, DeviceKind::Key, &key, &Proof::Key { signature: part }, &place), None);
    }
}
