//! Stories of mail: what is sent once and with whose yes, what is kept and read, what a server may do that misbehaves.

use crate::tools::{asks_and_uses, audited, keep, uses, uses_with_a_yes};
use policy::host::Target;
use serde_json::{Value, json};
use std::process::Stdio;
use tenant_agent::console::{VaultVerb, Verb};
use tenant_agent::mail::letter::Mailbox as Address;
use tenant_agent::mail::{Account, Server, Tls};
use tests::mailbox::USER;
use tests::{Browser, Internet, MailManners, Mailbox, Tenant, World, soon};
use tokio::net::TcpListener;

pub const HOST: &str = "mail.example.org";
const ADDRESS: &str = "93.184.216.40";

struct Rig {
    world: World,
    tenant: Tenant,
    internet: Internet,
    mailbox: Mailbox,
    password: String,
}

async fn rig(tls: Tls) -> Rig {
    let internet = Internet::default();
    let password = format!("Kirsch{}Baum-{}", 7, &service::random::token()[..12]);
    let mut world = World::start().await;
    world.outside(internet.network());
    let mailbox = office(&mut world, &internet, &password, tls).await;
    let tenant = world.tenant("alice").await;
    keep(&tenant, "mail.office", &password, &[], &[HOST]).await;
    Rig { world, tenant, internet, mailbox, password }
}

/// A mailbox on the internet, and the account for it of tenants that come later.
pub async fn office(world: &mut World, internet: &Internet, password: &str, tls: Tls) -> Mailbox {
    let mailbox = Mailbox::new(password, internet.certified(HOST));
    internet.name(HOST, &[ADDRESS]);
    let is_implicit = tls == Tls::Implicit;
    let smtp = mailbox.clone();
    internet.server(&format!("{ADDRESS}:465"), move |stream| smtp.clone().smtp(stream, is_implicit)).await;
    let imap = mailbox.clone();
    internet.server(&format!("{ADDRESS}:993"), move |stream| imap.clone().imap(stream, is_implicit)).await;
    let server = |port: u16| Some(Server { target: Target::parse(&format!("{HOST}:{port}"), None).unwrap(), tls });
    world.mail(Account {
        name: "office".to_owned(),
        from: Address::parse(&format!("Anna Muster <{USER}>")).unwrap(),
        user: USER.to_owned(),
        secret: "mail.office".to_owned(),
        smtp: server(465),
        imap: server(993),
        drafts: None,
    });
    mailbox
}

impl Rig {
    async fn end(self) {
        assert_eq!(self.tenant.console(&Verb::Status {}).await["frozen_sessions"], json!([]));
        let log = audited(&self.tenant).join("\n");
        assert!(!log.contains(&self.password) && !log.contains("bert@example.net"), "{log}");
        self.tenant.end().await;
        self.world.end().await;
    }
}

fn letter() -> Value {
    json!({ "to": ["Bert <bert@example.net>"], "bcc": ["boss@example.net"], "subject": "Grüße", "body": "Hallo Bert,\n.\nbis bald" })
}

#[tokio::test]
async fn one_yes_sends_one_letter_to_whom_the_card_says() {
    for tls in [Tls::Implicit, Tls::Starttls] {
        let rig = rig(tls).await;
        let mut owner = rig.tenant.chat().await;
        let plugin = rig.tenant.gateway.clone();
        let held = tokio::spawn(async move { plugin.decide("r", "t", "c1", "gatehouse__send_mail", &letter()).await });
        let question = owner.question().await;
        assert_eq!((&question["rule"], &question["class"], &question["external"]), (&json!("mail.send"), &json!("yellow"), &json!(true)));
        let details = question["details"].to_string();
        for shown in ["bert@example.net", "boss@example.net", "Grüße", "bis bald"] {
            assert!(details.contains(shown), "{shown}: {details}");
        }
        assert!(rig.internet.connected().is_empty(), "nobody is spoken to before the yes");
        owner.decide(&question, "approve").await;
        assert_eq!(soon(held).await.unwrap().json()["allow"], true);
        let (said, is_error) = uses(&rig.tenant, "send_mail", letter()).await;
        assert!(!is_error && said.starts_with("Sent to 2 recipients of office"), "{said}");
        let sent = rig.mailbox.sent();
        assert_eq!((sent.len(), sent[0].from.as_str(), &sent[0].to), (1, USER, &vec!["bert@example.net".to_owned(), "boss@example.net".to_owned()]));
        assert!(!sent[0].letter.contains("boss@example.net") && sent[0].letter.contains("From: \"Anna Muster\" <anna@example.org>"), "{}", sent[0].letter);
        let id = said.split_once('<').unwrap().1.split_once('>').unwrap().0.to_owned();
        assert!(sent[0].letter.contains(&format!("Message-ID: <{id}>")));
        assert!(uses(&rig.tenant, "send_mail", letter()).await.0.contains("nobody was asked"), "a yes is for one time");
        assert_eq!(rig.mailbox.sent().len(), 1);
        assert!(audited(&rig.tenant).iter().any(|line| line.starts_with("mail_sent ") && line.ends_with(&id)));
        rig.end().await;
    }
}

#[tokio::test]
async fn a_yes_for_a_day_sends_one_letter_too() {
    let rig = rig(Tls::Implicit).await;
    let mut owner = rig.tenant.chat().await;
    let asked = async |id: &'static str, owner: &mut Browser, is_asked: bool| {
        let plugin = rig.tenant.gateway.clone();
        let held = tokio::spawn(async move { plugin.decide("r", "t", id, "gatehouse__send_mail", &letter()).await });
        if is_asked {
            let question = owner.question().await;
            assert_eq!(owner.decide(&question, "approve_day").await["ok"], true);
        }
        assert_eq!(soon(held).await.unwrap().json()["allow"], true);
        uses(&rig.tenant, "send_mail", letter()).await
    };
    // What surely did not go out may be tried again by the same yes, what went out may not.
    rig.mailbox.behave(MailManners { is_full: true, ..Default::default() });
    let (said, is_error) = asked("c1", &mut owner, true).await;
    assert!(is_error && said.contains("452 the disk is full"), "{said}");
    rig.mailbox.behave(MailManners::default());
    assert!(asked("c2", &mut owner, false).await.0.starts_with("Sent to 2"));
    let (said, is_error) = asked("c3", &mut owner, false).await;
    assert!(is_error && said.contains("was sent with this approval already"), "{said}");
    // Not even when the server cannot be reached meanwhile.
    rig.internet.name(HOST, &["127.0.0.1"]);
    assert!(asked("c4", &mut owner, false).await.0.contains("private network"));
    rig.internet.name(HOST, &[ADDRESS]);
    assert!(asked("c5", &mut owner, false).await.0.contains("was sent with this approval already"));
    assert_eq!(rig.mailbox.sent().len(), 1);
    rig.end().await;
}

#[tokio::test]
async fn what_may_have_gone_out_is_not_sent_again_after_a_start() {
    let mut rig = rig(Tls::Implicit).await;
    rig.mailbox.behave(MailManners { is_silent_at_the_end: true, ..Default::default() });
    let mut owner = rig.tenant.chat().await;
    let plugin = rig.tenant.gateway.clone();
    let held = tokio::spawn(async move { plugin.decide("r", "t", "c1", "gatehouse__send_mail", &letter()).await });
    let question = owner.question().await;
    owner.decide(&question, "approve_day").await;
    soon(held).await.unwrap();
    let (said, is_error) = uses(&rig.tenant, "send_mail", letter()).await;
    assert!(is_error && said.contains("nobody can say whether it was"), "{said}");
    rig.mailbox.behave(MailManners::default());
    rig.tenant = rig.tenant.restart().await;
    rig.tenant.ready().await;
    let (said, is_error) = asks_and_uses(&rig.tenant, "send_mail", letter()).await;
    assert!(is_error && said.contains("nobody can say whether it was"), "{said}");
    assert_eq!(rig.mailbox.sent().len(), 1, "it was taken, and once");
    rig.end().await;
}

#[tokio::test]
async fn a_draft_is_kept_unasked_and_reaches_nobody() {
    let rig = rig(Tls::Starttls).await;
    let draft = json!({ "to": ["bert@example.net"], "bcc": ["boss@example.net"], "subject": "Entwurf", "body": "noch nicht fertig" });
    let (said, is_error) = asks_and_uses(&rig.tenant, "draft_mail", draft).await;
    assert!(!is_error && said == "Kept as a draft in `Entwürfe` of office. It was not sent.", "{said}");
    let kept = rig.mailbox.folder("Entw&APw-rfe");
    assert!(kept.len() == 1 && kept[0].0.contains("\\Draft") && kept[0].1.contains("boss@example.net") && kept[0].1.contains("noch nicht fertig"), "{kept:?}");
    assert!(rig.mailbox.sent().is_empty());
    rig.end().await;
}

#[tokio::test]
async fn mail_is_found_and_read_and_stays_as_it_was() {
    let rig = rig(Tls::Implicit).await;
    let secret = service::random::token();
    keep(&rig.tenant, "crm.key", &secret, &["exec"], &[]).await;
    rig.mailbox.receive("From: Bert <bert@example.net>\nSubject: invoice\nMessage-ID: <m1@example.net>\n\nPlease pay.\n");
    rig.mailbox.receive(&format!("From: carla@example.net\nSubject: your key\nContent-Type: text/html\n\n<p>It is <b>{secret}</b></p>\n"));
    let before = rig.mailbox.folder("INBOX");
    let read = async |arguments: Value| asks_and_uses(&rig.tenant, "read_mail", arguments).await;
    assert_eq!(read(json!({ "action": "folders" })).await, ("Entwürfe\nINBOX\nSent".to_owned(), false));
    let (said, _) = read(json!({ "action": "search" })).await;
    assert!(said.starts_with("[what follows was written by others") && said.find("uid 2").unwrap() < said.find("uid 1").unwrap(), "{said}");
    let (said, _) = read(json!({ "action": "search", "from": "bert", "subject": "invoice", "since": "2026-01-01", "unread": true })).await;
    assert!(
        said.contains("uid 1 (unread)\nfrom: Bert <bert@example.net>\nsubject: invoice\nmessage-id: <m1@example.net>") && !said.contains("uid 2"),
        "{said}"
    );
    assert!(read(json!({ "action": "search", "text": "größer \"nothing\" {5}" })).await.0.ends_with("Nothing was found."));
    let (said, _) = read(json!({ "action": "read", "uid": 2 })).await;
    assert!(said.contains("It is SECRET_REF(crm.key)") && !said.contains(&secret), "{said}");
    for (wrong, why) in [
        (json!({ "action": "read", "uid": 9 }), "no such message"),
        (json!({ "action": "read" }), "give its `uid`"),
        (json!({ "action": "search", "folder": "Nowhere" }), "no such folder"),
        (json!({ "action": "search", "since": "yesterday" }), "as 2026-01-31"),
        (json!({ "action": "search", "account": "other" }), "no mail account `other`"),
    ] {
        let (said, is_error) = read(wrong.clone()).await;
        assert!(is_error && said.contains(why), "{wrong}: {said}");
    }
    assert_eq!(rig.mailbox.folder("INBOX"), before, "nothing was marked");
    assert!(rig.mailbox.said().iter().all(|line| !line.contains("SELECT") && !line.contains("STORE") && !line.contains("EXPUNGE")));
    let sent: String = rig.world.model.requests().iter().map(|request| request.body.to_string()).collect();
    assert!(!sent.contains(&secret));
    rig.end().await;
}

#[tokio::test]
async fn the_password_goes_to_its_server_encrypted_and_no_secret_goes_to_people() {
    let rig = rig(Tls::Starttls).await;
    let mut owner = rig.tenant.chat().await;
    let send = async |owner: &mut Browser, body: &str| {
        let arguments = json!({ "to": ["bert@example.net"], "subject": "s", "body": body });
        uses_with_a_yes(&rig.tenant, owner, "send_mail", arguments).await
    };
    for manners in [MailManners { hides_tls: true, ..Default::default() }, MailManners { speaks_early: true, ..Default::default() }] {
        rig.mailbox.behave(manners);
        assert!(send(&mut owner, "one").await.1);
        assert!(asks_and_uses(&rig.tenant, "read_mail", json!({ "action": "folders" })).await.1);
    }
    assert!(rig.mailbox.said().iter().all(|line| !line.contains("AUTH") && !line.contains("LOGIN")), "{:?}", rig.mailbox.said());
    rig.mailbox.behave(MailManners::default());

    let token = service::random::token();
    keep(&rig.tenant, "crm.key", &token, &["send_mail"], &[]).await;
    for (body, why) in [
        (format!("key {token}"), "holds a secret"),
        ("key SECRET_REF(crm.key)".to_owned(), "cannot go to people"),
        (format!("key {}", rig.password), "holds a secret"),
    ] {
        let (said, is_error) = send(&mut owner, &body).await;
        assert!(is_error && said.contains(why) && !said.contains(&token), "{body}: {said}");
    }
    assert!(rig.mailbox.sent().is_empty());

    // Bound to another host, or to another tool, the password is for nobody here.
    for (tools, hosts) in [(&[][..], &["other.example.org"][..]), (&["exec"], &[HOST])] {
        bind(&rig.tenant, &["exec"], &[HOST, "other.example.org"], false).await;
        bind(&rig.tenant, tools, hosts, true).await;
        let (said, is_error) = send(&mut owner, "two").await;
        assert!(is_error && said.contains("is not bound to mail.example.org"), "{said}");
    }
    rig.end().await;
}

async fn bind(tenant: &Tenant, tools: &[&str], hosts: &[&str], bound: bool) {
    let bindings = serde_json::from_value(json!({ "tools": tools, "hosts": hosts })).unwrap();
    let what = VaultVerb::Bind { name: "mail.office".to_owned(), bindings, bound };
    assert_eq!(tenant.console(&Verb::Vault { what }).await["ok"], true);
}

#[tokio::test]
async fn a_server_that_misbehaves_is_not_heard_out() {
    let rig = rig(Tls::Implicit).await;
    let mut owner = rig.tenant.chat().await;
    rig.mailbox.behave(MailManners { refuses: "boss@example.net".to_owned(), ..Default::default() });
    let (said, is_error) = uses_with_a_yes(&rig.tenant, &mut owner, "send_mail", letter()).await;
    assert!(is_error && said.contains("550 nobody of this name"), "{said}");
    rig.mailbox.behave(MailManners { never_ends: true, ..Default::default() });
    let (said, is_error) = uses_with_a_yes(&rig.tenant, &mut owner, "send_mail", letter()).await;
    assert!(is_error && said.contains("cannot be read"), "{said}");
    let (said, is_error) = asks_and_uses(&rig.tenant, "read_mail", json!({ "action": "folders" })).await;
    assert!(is_error && said.contains("cannot be read"), "{said}");
    assert!(rig.mailbox.sent().is_empty(), "one recipient that is refused keeps all of it");
    rig.internet.name(HOST, &["10.0.0.1"]);
    let (said, is_error) = asks_and_uses(&rig.tenant, "read_mail", json!({ "action": "folders" })).await;
    assert!(is_error && said.contains("private network"), "{said}");
    rig.end().await;
}

#[tokio::test]
async fn without_an_account_there_are_no_tools_of_mail() {
    let world = World::start().await;
    let tenant = world.tenant("alice").await;
    let listed = tenant.gateway.speak_mcp(&json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" })).await.text();
    assert!(!listed.contains("_mail") && listed.contains("http_request"), "{listed}");
    assert!(asks_and_uses(&tenant, "read_mail", json!({ "action": "folders" })).await.0.contains("no mail account"));
    tenant.end().await;
    world.end().await;
}

/// The played servers speak as real clients expect it: those of Python's own library.
#[tokio::test]
#[ignore = "needs Python"]
async fn clients_of_others_understand_the_played_servers() {
    let internet = Internet::default();
    let mailbox = Mailbox::new("word", internet.certified("localhost"));
    mailbox.receive("From: Bert <bert@example.net>\nSubject: hello\n\nHi.\n");
    let mut ports = Vec::new();
    for which in 0..4 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        ports.push(listener.local_addr().unwrap().port().to_string());
        let mailbox = mailbox.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mailbox = mailbox.clone();
                tokio::spawn(async move {
                    match which {
                        0 => mailbox.smtp(stream, true).await,
                        1 => mailbox.smtp(stream, false).await,
                        2 => mailbox.imap(stream, true).await,
                        _ => mailbox.imap(stream, false).await,
                    }
                });
            }
        });
    }
    let program = r#"
import imaplib, smtplib, ssl, sys
a, b, c, d = (int(port) for port in sys.argv[1:])
context = ssl._create_unverified_context()
user = "anna@example.org"
for smtp in (smtplib.SMTP_SSL("localhost", a, context=context), smtplib.SMTP("localhost", b)):
    if smtp.sock.__class__.__name__ == "socket":
        smtp.starttls(context=context)
    smtp.login(user, "word")
    assert smtp.sendmail(user, ["bert@example.net"], "Subject: x\r\n\r\n.dot\r\n") == {}
    smtp.quit()
for imap in (imaplib.IMAP4_SSL("localhost", c, ssl_context=context), imaplib.IMAP4("localhost", d)):
    if isinstance(imap, imaplib.IMAP4) and not isinstance(imap, imaplib.IMAP4_SSL):
        imap.starttls(ssl_context=context)
    imap.login(user, "word")
    assert imap.list()[0] == "OK"
    assert imap.select("INBOX", readonly=True)[1] == [b"1"]
    assert imap.uid("search", None, "FROM", "bert")[1] == [b"1"]
    assert b"Hi." in imap.uid("fetch", "1", "(UID FLAGS BODY.PEEK[])")[1][0][1]
    assert imap.append("Sent", "(\\Seen)", None, b"Subject: y\r\n\r\nz\r\n")[0] == "OK"
    imap.logout()
print("understood")
"#;
    let child =
        tokio::process::Command::new("python3").arg("-c").arg(program).args(&ports).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    let output = soon(child).await.expect("Python is there");
    assert_eq!((String::from_utf8_lossy(&output.stdout).as_ref(), String::from_utf8_lossy(&output.stderr).as_ref()), ("understood\n", ""));
    assert_eq!((mailbox.sent().len(), mailbox.sent()[0].letter.contains("\n.dot"), mailbox.folder("Sent").len()), (2, true, 2));
}
