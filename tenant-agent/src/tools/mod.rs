//! Our own tools, for OpenClaw to use in the place of its shell and its hands on files: a server of MCP on the agent's
//! inner address. What runs here is what was approved, byte for byte, or nothing.
//!
//! [`Tools::call`] is the page on which every step that can stop a call stands in order. The server believes nobody who
//! merely knows its token: a call runs only when the safety wrapper has written down a verdict for exactly this tool,
//! these arguments and the places that its paths lead to now, and each verdict is for one time.

mod capture;
mod command;
mod file;
pub mod hands;
mod mail;
mod pin;
mod protocol;
mod request;
mod sandbox;
mod secret;

use crate::audit::{self, Deed};
use crate::bundle::InForce;
use crate::gateway::{Gateway, WayOut};
use crate::identity::Identity;
use crate::ledger::{self, Claimed};
use crate::mail::Post;
use crate::outlet::Outlet;
use crate::outlet::exchange::Leave;
use crate::screen::Screen;
use crate::target;
use crate::vault::Vault;
use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::post;
use command::{End, Line};
use file::FileError;
use hands::{Done, Hands, Order};
use policy::{Call, Digest};
use protocol::{Message, Tool, What};
use request::HttpRequest;
pub use sandbox::Walls;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use service::door;
use service::store::StoreError;
use service::{Clock, Refusal, Store, random};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, Semaphore};
use zeroize::Zeroizing;

pub struct Tools {
    pub store: Store,
    pub clock: Clock,
    pub in_force: InForce,
    pub identity: Identity,
    pub gateway: Gateway,
    pub vault: Vault,
    pub screen: Screen,
    pub workspace: PathBuf,
    /// Where commands reach the world outside, if that is told to them.
    pub way_out: Option<WayOut>,
    pub hands: Hands,
    /// Where requests go.
    pub outlet: Arc<Outlet>,
    /// Where mail is.
    pub post: Post,
    pub places: Semaphore,
    /// Calls that change files beside each other, and commands that run alone.
    pub turns: RwLock<()>,
}

/// Calls at the same time; the others wait.
pub const CALLS_MAX: usize = 8;
/// Arguments may hold a whole file.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Lines of a file that are shown when nobody says how many.
const LINES_SHOWN: usize = 2000;

/// A no comes as the refusal of the call, with its reason.
const ANSWERED: &str = "A person read this and said yes. That allows nothing by itself: each call of the step is still checked, and may be asked about.";

/// Also when the script did it itself.
const SWAPPED: &str = "[a file that this command runs was changed while it ran: what a person allowed was the file before that; the audit says so]";

const TOKEN_WRONG: Refusal = Refusal::new(StatusCode::FORBIDDEN, "tools_token_wrong");

/// Why a call is not run.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("This call was not run: nobody was asked whether it may. Tell the user; do not try another way.")]
    Unasked,
    #[error("This call was not run: the rules have changed since it was allowed. Propose it again.")]
    Lawless,
    #[error("This call was not run: its arguments do not fit ({why}). Propose it with other arguments.")]
    Arguments { why: String },
    #[error("This call was not run: {why}.")]
    Secret { why: String },
    #[error("This call was not run: where `{name}` leads cannot be told.")]
    Place { name: &'static str },
    #[error("This call did nothing: {0}.")]
    File(#[from] FileError),
    #[error("This call did nothing: the text to be replaced occurs {count} times in the file, not once.")]
    Occurrences { count: usize },
    #[error("This call sent nothing, or got no answer. {why}")]
    Host { why: String },
    #[error("This call did nothing: {0}.")]
    Mail(#[from] crate::mail::Error),
    #[error("This call was not run: a file that it runs was exchanged after it was allowed. Propose it again.")]
    Swapped,
    #[error("This call was given up after {secs} s. Whether it reached the host nobody can say.")]
    Late { secs: u64 },
    #[error("This call failed here, and nobody can say how far it came. Tell the user.")]
    Failed(#[from] anyhow::Error),
}

impl Refused {
    /// For the log, which gets no word of a call.
    fn code(&self) -> &'static str {
        match self {
            Refused::Unasked => "unasked",
            Refused::Lawless => "lawless",
            Refused::Arguments { .. } => "arguments",
            Refused::Secret { .. } => "secret",
            Refused::Place { .. } => "place",
            Refused::File(_) => "file",
            Refused::Occurrences { .. } => "occurrences",
            Refused::Host { .. } => "host",
            Refused::Mail(_) => "mail",
            Refused::Swapped => "swapped",
            Refused::Late { .. } => "late",
            Refused::Failed(_) => "failed",
        }
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Refused {
        Refused::Failed(anyhow::Error::new(error).context("the records of a call"))
    }
}

/// What the model hears of a call that ran.
struct Said {
    text: String,
    is_error: bool,
}

pub fn routes(tools: Arc<Tools>) -> Router {
    Router::new().route("/mcp", post(speak)).with_state(tools)
}

async fn speak(State(tools): State<Arc<Tools>>, headers: HeaderMap, body: door::Json<Value, BODY_BYTES_MAX>) -> Result<Response, Refusal> {
    let shown = door::bearer(&headers);
    // The comparison needs the token.
    let is_right = tools.gateway.tools_token().zip(shown).is_some_and(|(token, shown)| random::same(token.expose(), shown));
    if !is_right {
        tracing::warn!("somebody without its token spoke to the server of tools");
        return Err(TOKEN_WRONG);
    }
    let (id, what) = match protocol::read(&body.0) {
        Message::Request { id, what } => (id, what),
        Message::Notification => return Ok(protocol::accepted()),
        Message::Invalid => return Ok(protocol::error(&Value::Null, protocol::REQUEST_INVALID, "no request")),
    };
    Ok(match what {
        What::Initialize { version } => protocol::answer(&id, protocol::hello(version)),
        What::Ping => protocol::answer(&id, Value::Object(Default::default())),
        What::List => protocol::answer(&id, serde_json::json!({ "tools": tools.listed() })),
        What::Unknown => protocol::error(&id, protocol::METHOD_UNKNOWN, "no such method"),
        What::CallInvalid => protocol::error(&id, protocol::PARAMS_INVALID, "a call has a name and an object of arguments"),
        What::Call { name, arguments } => match Tool::named(&name) {
            None => protocol::error(&id, protocol::PARAMS_INVALID, "no such tool"),
            Some(tool) => {
                let said = tools.call(tool, arguments).await.unwrap_or_else(|refused| {
                    match &refused {
                        Refused::Failed(error) => tracing::error!(error = format!("{error:#}"), tool = tool.name(), "a call failed"),
                        refused => tracing::info!(tool = tool.name(), why = refused.code(), "a call was not run"),
                    }
                    Said { text: refused.to_string(), is_error: true }
                });
                protocol::answer(&id, protocol::result(&said.text, said.is_error))
            }
        },
    })
}

impl Tools {
    /// Those that the law gives to assistants.
    fn listed(&self) -> Vec<Value> {
        let law = self.in_force.law();
        let is_there = |tool: &Tool| law.manifest(&tool.whole_name()) && (!tool.is_about_mail() || !self.post.accounts.is_empty());
        Tool::ALL.into_iter().filter(is_there).map(Tool::listed).collect()
    }

    async fn call(&self, tool: Tool, arguments: Value) -> Result<Said, Refused> {
        Wanted::read(tool, &arguments)?;
        let _place = self.places.acquire().await.context("a place for a call")?;
        // Before the claim, so that what is looked at there stays.
        let _turn = self.turn(tool, &arguments).await;
        let permit = self.claim(tool, &arguments).await?;
        let ready = match secret::resolve(&self.vault, tool, arguments, permit.claimed.is_granted).await {
            Ok(ready) => ready,
            Err(refused) => {
                self.note(&permit.claimed, "secret_refused", &format!("{}: {refused}", tool.name())).await?;
                return Err(refused);
            }
        };
        // What is used must be known to those who look at what comes back.
        let is_covered = if ready.names.is_empty() { self.screen.is_sound() } else { self.screen.covers_all().await };
        if !is_covered {
            return Err(Refused::Failed(anyhow::anyhow!("the vault cannot be read for what must not leave")));
        }
        if !ready.names.is_empty() {
            self.note(&permit.claimed, "secret_used", &format!("{} {}", tool.name(), ready.names.join(" "))).await?;
        }
        let has_secret = !ready.names.is_empty();
        let said = self.perform(Wanted::read(tool, &ready.args)?, Values { env: ready.env, has_secret }, &permit).await;
        let (session, call_id, now_ms) = (permit.claimed.session, permit.claimed.call_id, self.clock.wall_ms());
        self.store.write(move |tx| Ok::<_, StoreError>(ledger::note_end(tx, &session, &call_id, now_ms)?)).await?;
        said
    }

    /// A command that runs a file of the assistant's own, and that a person is asked about, runs alone: no other call can
    /// exchange the file between the look at it and its run.
    async fn turn(&self, tool: Tool, arguments: &Value) -> Option<Turn<'_>> {
        match tool {
            Tool::Exec => {}
            Tool::WriteFile | Tool::EditFile => return Some(Turn::Beside(self.turns.read().await)),
            Tool::HttpRequest if arguments.get("saveTo").is_some() => return Some(Turn::Beside(self.turns.read().await)),
            _ => return None,
        }
        let (in_force, name) = (self.in_force.law(), tool.whole_name());
        let resolved = target::resolve(in_force.law(), &name, arguments, &self.workspace).await;
        let workspace = self.workspace.to_string_lossy();
        let asks = |assistant: &str| {
            let call = Call { assistant, tool: &name, arguments, workspace: &workspace, resolved: &resolved };
            matches!(policy::gate(&in_force.classify(&call), in_force.gate(assistant, &name)), policy::Verdict::Ask | policy::Verdict::AskSigned)
        };
        let runs_own = resolved.iter().any(|(name, _)| name.starts_with(target::CONTENT));
        let is_alone = runs_own && self.identity.assistants.iter().any(|(_, assistant)| asks(&assistant.id.to_string()));
        Some(match is_alone {
            true => Turn::Alone(self.turns.write().await),
            false => Turn::Beside(self.turns.read().await),
        })
    }

    /// Takes the verdict on this very call, as it would be judged now. What a path leads to is a part of that: a path that
    /// leads elsewhere by now makes another call, on which nobody has decided.
    async fn claim(&self, tool: Tool, arguments: &Value) -> Result<Permit, Refused> {
        let in_force = self.in_force.law();
        let name = tool.whole_name();
        let known = in_force.law().tools();
        let resolved = target::resolve(in_force.law(), &name, arguments, &self.workspace).await;
        let workspace = self.workspace.to_string_lossy();
        for (_, assistant) in &self.identity.assistants {
            let assistant = assistant.id.to_string();
            let call = Call { assistant: &assistant, tool: &name, arguments, workspace: &workspace, resolved: &resolved };
            let digest = policy::digest(&call, known.presentation(&name));
            let (claimed_name, now_ms) = (name.clone(), self.clock.wall_ms());
            let claimed = self.store.write(move |tx| Ok::<_, StoreError>(ledger::claim(tx, &claimed_name, digest, now_ms)?)).await?;
            let Some(claimed) = claimed else { continue };
            let may = match policy::gate(&in_force.classify(&call), in_force.gate(&assistant, &name)) {
                policy::Verdict::Run | policy::Verdict::RunAndNotify => in_force.manifest(&name),
                policy::Verdict::Ask | policy::Verdict::AskSigned => in_force.manifest(&name) && claimed.is_granted,
            };
            return if may { Ok(Permit { claimed, digest, assistant, places: Places(resolved) }) } else { Err(Refused::Lawless) };
        }
        tracing::warn!(tool = tool.name(), "somebody made a call that nobody allowed");
        let now_ms = self.clock.wall_ms();
        self.store
            .write(move |tx| Ok::<_, StoreError>(audit::note(tx, now_ms, &Deed { actor: "tools", deed: "refuse_unasked", subject: tool.name(), detail: "" })?))
            .await?;
        Err(Refused::Unasked)
    }

    async fn note(&self, claimed: &Claimed, deed: &'static str, detail: &str) -> Result<(), Refused> {
        let (session, detail, now_ms) = (claimed.session.clone(), detail.to_owned(), self.clock.wall_ms());
        Ok(self
            .store
            .write(move |tx| Ok::<_, StoreError>(audit::note(tx, now_ms, &Deed { actor: "tools", deed, subject: &session, detail: &detail })?))
            .await?)
    }

    async fn perform(&self, wanted: Wanted, values: Values, permit: &Permit) -> Result<Said, Refused> {
        let places = &permit.places;
        let is_edit = matches!(wanted, Wanted::EditFile(_));
        let order = match wanted {
            Wanted::SecretNames(_) => return Ok(Said { text: secret::names(&self.vault).await?, is_error: false }),
            Wanted::AskApproval => return Ok(Said { text: ANSWERED.to_owned(), is_error: false }),
            Wanted::Exec(exec) => return self.exec(exec, values.env, permit).await,
            Wanted::HttpRequest(request) => return self.request(request, values.has_secret, permit).await,
            Wanted::SendMail(write) => return self.write_mail(write, Tool::SendMail, permit).await,
            Wanted::DraftMail(write) => return self.write_mail(write, Tool::DraftMail, permit).await,
            Wanted::ReadMail(read) => return self.read_mail(read).await,
            Wanted::ReadFile(read) => {
                let done = self.hands.perform(Order::Read { place: places.of("path")? }, &self.clock).await?;
                let Done::Text(text) = done else { return Err(undone(done)) };
                let redactor = self.screen.now();
                // Looked at as a whole: a secret may have several lines.
                let text = blocking(move || Ok(read.lines_of(&redactor.text(&text).text))).await?;
                return Ok(Said { text, is_error: false });
            }
            Wanted::WriteFile(write) => Order::Write { place: places.of("path")?, text: write.content },
            Wanted::EditFile(edit) => Order::Replace { place: places.of("path")?, before: edit.old_text, after: edit.new_text },
        };
        match self.hands.perform(order, &self.clock).await? {
            Done::Written => Ok(Said { text: if is_edit { "Replaced." } else { "Written." }.to_owned(), is_error: false }),
            done => Err(undone(done)),
        }
    }

    async fn request(&self, request: HttpRequest, has_secret: bool, permit: &Permit) -> Result<Said, Refused> {
        let place = if request.save_to.is_some() { Some(permit.places.of("saveTo")?) } else { None };
        let request = request.ready()?;
        if has_secret && !request.is_private() {
            let why = "a secret goes only where the connection is encrypted, and this URL is plain http".to_owned();
            self.note(&permit.claimed, "secret_refused", &format!("{}: {why}", Tool::HttpRequest.name())).await?;
            return Err(Refused::Secret { why });
        }
        let leave = if permit.claimed.is_granted { Leave::Granted } else { Leave::Listed };
        let answer = request.send(&self.outlet, leave, has_secret, |url| self.may_look(&permit.assistant, url)).await?;
        let redactor = self.screen.now();
        let Some(place) = place.filter(|_| answer.is_success()) else {
            let (text, is_error) = blocking(move || Ok((answer.shown(&redactor), !answer.is_success()))).await?;
            return Ok(Said { text, is_error });
        };
        let looked = blocking(move || Ok((answer.to_keep(&redactor), answer))).await?;
        let (note, is_error) = match looked {
            (Err(why), _) => (format!("its body was not put into the file: {why}"), true),
            (Ok(bytes), _) => {
                let count = bytes.len();
                match self.hands.perform(Order::Keep { place, bytes }, &self.clock).await? {
                    Done::Written => (format!("{count} bytes were put into the file"), false),
                    done => return Err(undone(done)),
                }
            }
        };
        let (redactor, answer) = (self.screen.now(), looked.1);
        Ok(Said { text: answer.noted(&redactor, &note), is_error })
    }

    /// Whether the rules let the assistant look at this address without a question.
    fn may_look(&self, assistant: &str, url: &str) -> bool {
        let (in_force, name) = (self.in_force.law(), Tool::HttpRequest.whole_name());
        let arguments = serde_json::json!({ "url": url });
        let call = Call { assistant, tool: &name, arguments: &arguments, workspace: "", resolved: &[] };
        policy::gate(&in_force.classify(&call), in_force.gate(assistant, &name)) == policy::Verdict::Run
    }

    async fn exec(&self, exec: Exec, secrets: Vec<(String, Zeroizing<String>)>, permit: &Permit) -> Result<Said, Refused> {
        let places = &permit.places;
        let folder = if exec.workdir.is_some() { places.of("workdir")? } else { self.workspace.clone() };
        let timeout_secs = exec.timeout_seconds.unwrap_or(command::TIMEOUT_SECS).clamp(1, command::TIMEOUT_SECS_MAX);
        // The way out comes first: a call may do without it. What is past it is closed where the network is.
        let mut env: Vec<(String, String)> = Vec::new();
        if let (Some(way_out), Some(token)) = (&self.way_out, self.gateway.forward_token()) {
            env.extend(way_out.variables(&token).into_iter().map(|(name, value)| (name.to_owned(), value.to_string_lossy().into_owned())));
        }
        env.extend(exec.env);
        // Last, so that none of the call's own takes the place of one. Wiped with the line.
        env.extend(secrets.into_iter().map(|(name, value)| (name, value.as_str().to_owned())));
        // What runs unasked is held to nothing that a person saw.
        let pins = if permit.claimed.is_granted { places.pins(&folder) } else { Vec::new() };
        let line = Line { text: exec.command, folder, env, stdin: exec.stdin.unwrap_or_default(), timeout_secs, pins };
        let done = self.hands.perform(Order::Run(line), &self.clock).await?;
        if matches!(done, Done::Swapped) {
            self.note(&permit.claimed, "script_swapped", "before it ran").await?;
            return Err(Refused::Swapped);
        }
        let Done::Ran { printed, end, is_swapped } = done else { return Err(undone(done)) };
        if is_swapped {
            self.note(&permit.claimed, "script_swapped", "while it ran").await?;
        }
        let redactor = self.screen.now();
        let printed = blocking(move || Ok(printed.shown(|text| redactor.text(text).text.into_owned()))).await?;
        let ended = match end {
            End::Code(0) => String::new(),
            End::Code(code) => format!("[exit code {code}]"),
            End::Signal(signal) => format!("[ended by signal {signal}]"),
            End::Late => format!("[ended after {timeout_secs} s, with everything that it had started]"),
        };
        let swapped = if is_swapped { SWAPPED } else { "" };
        let text = [printed.trim_end_matches('\n'), &ended, swapped].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n");
        Ok(Said { text, is_error: end != End::Code(0) })
    }
}

/// Why an order did nothing.
fn undone(done: Done) -> Refused {
    match done {
        Done::Failed(error) => Refused::File(error),
        Done::Occurs(count) => Refused::Occurrences { count },
        done => Refused::Failed(anyhow::anyhow!("an order was answered with something else: {done:?}")),
    }
}

/// Held as long as a command runs.
enum Turn<'a> {
    Alone(#[expect(dead_code, reason = "it is held, not looked at")] RwLockWriteGuard<'a, ()>),
    Beside(#[expect(dead_code, reason = "it is held, not looked at")] RwLockReadGuard<'a, ()>),
}

/// A verdict that was taken.
struct Permit {
    claimed: Claimed,
    digest: Digest,
    assistant: String,
    places: Places,
}

/// What came of the references in a call.
struct Values {
    env: Vec<(String, Zeroizing<String>)>,
    has_secret: bool,
}

/// Where path arguments lead, as the verdict has it.
struct Places(Vec<(String, Option<String>)>);

impl Places {
    fn of(&self, name: &'static str) -> Result<PathBuf, Refused> {
        let place = self.0.iter().find(|(argument, _)| argument == name).and_then(|(_, place)| place.as_deref());
        place.map(|place| Path::new(place).to_owned()).ok_or(Refused::Place { name })
    }

    /// The files that a command runs in this folder, with what was in them.
    fn pins(&self, folder: &Path) -> Vec<(PathBuf, String)> {
        let contents = self.0.iter().filter_map(|(name, digest)| Some((name.strip_prefix(target::CONTENT)?, digest.clone()?)));
        contents.map(|(file, digest)| (folder.join(file), digest)).collect()
    }
}

/// A call, as its tool reads it.
enum Wanted {
    Exec(Exec),
    ReadFile(ReadFile),
    WriteFile(WriteFile),
    EditFile(EditFile),
    HttpRequest(HttpRequest),
    SendMail(mail::Write),
    DraftMail(mail::Write),
    ReadMail(mail::Read),
    AskApproval,
    SecretNames(SecretNames),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exec {
    command: String,
    workdir: Option<String>,
    stdin: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(rename = "timeoutSeconds")]
    timeout_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadFile {
    #[serde(rename = "path")]
    _path: String,
    offset: Option<usize>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WriteFile {
    #[serde(rename = "path")]
    _path: String,
    content: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EditFile {
    #[serde(rename = "path")]
    _path: String,
    #[serde(rename = "oldText")]
    old_text: String,
    #[serde(rename = "newText")]
    new_text: String,
}

/// Words for a person; the card has shown them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskApproval {
    #[serde(rename = "summary")]
    _summary: String,
    #[serde(rename = "what")]
    _what: Option<String>,
    #[serde(rename = "reason")]
    _reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretNames {}

/// What a model may say beside the arguments, and what changes nothing.
const SAID_BESIDE: [&str; 2] = ["title", "description"];

impl Wanted {
    fn read(tool: Tool, arguments: &Value) -> Result<Wanted, Refused> {
        let mut arguments = arguments.clone();
        if let Some(arguments) = arguments.as_object_mut() {
            arguments.retain(|name, _| !SAID_BESIDE.contains(&name.as_str()));
        }
        let arguments = &arguments;
        let wanted = match tool {
            Tool::Exec => Wanted::Exec(fitting(arguments)?),
            Tool::ReadFile => Wanted::ReadFile(fitting(arguments)?),
            Tool::WriteFile => Wanted::WriteFile(fitting(arguments)?),
            Tool::EditFile => Wanted::EditFile(fitting(arguments)?),
            Tool::HttpRequest => Wanted::HttpRequest(fitting(arguments)?),
            Tool::SendMail => Wanted::SendMail(fitting(arguments)?),
            Tool::DraftMail => Wanted::DraftMail(fitting(arguments)?),
            Tool::ReadMail => Wanted::ReadMail(fitting(arguments)?),
            Tool::AskApproval => fitting::<AskApproval>(arguments).map(|_| Wanted::AskApproval)?,
            Tool::SecretNames => Wanted::SecretNames(fitting(arguments)?),
        };
        match &wanted {
            Wanted::Exec(exec) if exec.command.contains('\0') || exec.env.iter().any(|(name, value)| !is_variable(name) || value.contains('\0')) => {
                Err(Refused::Arguments { why: "a command and its variables are text without zero bytes, names of letters, digits and `_`".to_owned() })
            }
            _ => Ok(wanted),
        }
    }
}

/// The fault is told without the value in it.
fn fitting<T: DeserializeOwned>(arguments: &Value) -> Result<T, Refused> {
    T::deserialize(arguments).map_err(|error| {
        let why = error.to_string();
        let is_name = why.starts_with("missing field") || why.starts_with("unknown field");
        Refused::Arguments { why: if is_name { why } else { "one of them has the wrong type".to_owned() } }
    })
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && !name.as_bytes()[0].is_ascii_digit()
}

impl ReadFile {
    fn lines_of(&self, text: &str) -> String {
        let (skipped, count) = (self.offset.unwrap_or(1).saturating_sub(1), self.limit.unwrap_or(LINES_SHOWN));
        let lines: Vec<&str> = text.split_inclusive('\n').skip(skipped).take(count).collect();
        capture::shortened(&lines.concat())
    }
}

/// What waits for the disk or works long does so beside.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refused> + Send + 'static) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work).await.context("work beside")?
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn arguments_fit_or_are_refused_without_a_word_of_them() {
        let secret = "hunter2";
        for (tool, arguments) in [
            (Tool::Exec, json!({})),
            (Tool::Exec, json!({"command": ["ls"]})),
            (Tool::Exec, json!({"command": "ls", "elevated": true})),
            (Tool::Exec, json!({"command": "ls\u{0}"})),
            (Tool::Exec, json!({"command": "ls", "env": {"A B": "x"}})),
            (Tool::Exec, json!({"command": "ls", "env": {"A": [secret]}})),
            (Tool::Exec, json!({"command": "ls", "timeoutSeconds": secret})),
            (Tool::ReadFile, json!({"path": "a", "offset": -1})),
            (Tool::WriteFile, json!({"path": "a"})),
            (Tool::EditFile, json!({"path": "a", "oldText": "b"})),
            (Tool::SecretNames, json!({"name": "x"})),
        ] {
            match Wanted::read(tool, &arguments) {
                Err(refused @ Refused::Arguments { .. }) => assert!(!refused.to_string().contains(secret), "{refused}"),
                _ => panic!("{tool:?} {arguments}"),
            }
        }
        assert!(Wanted::read(Tool::Exec, &json!({"command": "ls", "workdir": "a", "stdin": "b", "env": {"A_1": "c"}, "timeoutSeconds": 5})).is_ok());
    }

    #[test]
    fn lines_are_counted_from_one() {
        let read = |offset, limit| ReadFile { _path: String::new(), offset, limit }.lines_of("one\ntwo\nthree");
        assert_eq!((read(None, None), read(Some(2), Some(1)), read(Some(9), None)), ("one\ntwo\nthree".into(), "two\n".into(), String::new()));
    }
}
