//! `hub policy …`: from TOML that people write to a bundle that agents enforce.
//!
//! Only `publish` and `show` need a hub's store; the rest works on files, so that keys can stay on a machine of their own.
//! A private key is a file of mode 0600 and is named, never given.

use super::{EXIT_CONFIG, Place, Trouble, open, read};
use crate::bundles::{self, Unpublished};
use anyhow::Context;
use clap::{Args, Subcommand};
use policy::bundle::{self, BYTES_MAX, Content, Fault, File, KeyDocument, Named, PublicKey, Refusal, Roots, Signed, Signer, Trust, chain};
use serde_json::{Value, json};
use service::key::SigningKey;
use service::{Clock, log};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Subcommand)]
pub enum PolicyCommand {
    /// Make a key pair: the private key goes into FILE (mode 0600), the public key is printed.
    Keygen {
        /// A file that is not there yet.
        file: PathBuf,
        /// Print one line of JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Make a bundle of a folder of TOML files, or a key document of a keys.toml, and sign it. A file that is signed already gets
    /// one more signature, so that each holder of a root key can sign at home.
    Sign(Sign),
    /// Say whether an agent would take a bundle, and why not.
    Verify(Verify),
    /// Say what a bundle changes. Each of the two is a signed bundle or a folder of TOML files.
    Diff {
        old: PathBuf,
        new: PathBuf,
        /// Print one line of JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Hand a signed bundle to every agent: to those that are connected at once, to the others when they come.
    Publish {
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Print what is published, or what a bundle holds.
    Show {
        /// A signed bundle or a folder of TOML files; left out: what this hub has published.
        file: Option<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Args)]
pub struct Sign {
    /// A folder with bundle.toml, rules/ and what else belongs to a bundle; a keys.toml; or a file that is signed already.
    source: PathBuf,
    /// A private key that signs. Can be given several times.
    #[arg(long = "key", value_name = "FILE", required = true)]
    keys: Vec<PathBuf>,
    /// A signed key document that goes along with a bundle. Can be given several times; older ones are needed after the root
    /// keys were changed.
    #[arg(long = "key-document", value_name = "FILE")]
    documents: Vec<PathBuf>,
    /// Where the signed file goes; left out for a file that is signed already: into its own place.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print one line of JSON instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Verify {
    file: PathBuf,
    /// The fleet that it should be for; left out: the configuration's.
    #[arg(long, requires = "roots")]
    fleet: Option<String>,
    /// A public root key. Can be given several times; left out: the configuration's.
    #[arg(long = "root", value_name = "KEY", requires = "fleet")]
    roots: Vec<String>,
    /// How many of the root keys must have signed.
    #[arg(long, default_value_t = 2)]
    threshold: usize,
    #[command(flatten)]
    place: Place,
}

/// A rule file is written by people; a hundred of the largest are a bundle.
const FILES_MAX: usize = 1000;
const REFUSED: u8 = 3;

/// Everything that is said at the end of a command.
enum Said {
    Done(Value, String),
    Faults(Vec<Fault>),
    Refused(Refusal),
}

impl PolicyCommand {
    pub fn is_json(&self) -> bool {
        match self {
            PolicyCommand::Keygen { json, .. } | PolicyCommand::Diff { json, .. } => *json,
            PolicyCommand::Sign(sign) => sign.json,
            PolicyCommand::Verify(Verify { place, .. }) | PolicyCommand::Publish { place, .. } | PolicyCommand::Show { place, .. } => place.json,
        }
    }
}

pub async fn run(command: PolicyCommand) -> Result<ExitCode, Trouble> {
    let json = command.is_json();
    let clock = Clock::system();
    let said = match command {
        PolicyCommand::Keygen { file, .. } => keygen(&file)?,
        PolicyCommand::Sign(command) => sign(command, clock.wall_ms())?,
        PolicyCommand::Verify(command) => verify(command, clock.wall_ms())?,
        PolicyCommand::Diff { old, new, .. } => diff(&old, &new, clock.wall_ms())?,
        PolicyCommand::Publish { file, place } => publish(&file, &place, clock.wall_ms()).await?,
        PolicyCommand::Show { file: Some(file), .. } => show_file(&file, clock.wall_ms())?,
        PolicyCommand::Show { file: None, place } => show_published(&place, clock.wall_ms()).await?,
    };
    Ok(said.out(json))
}

impl Said {
    fn out(self, as_json: bool) -> ExitCode {
        let (facts, text, code) = match self {
            Said::Done(facts, text) => (facts, text, 0),
            Said::Faults(faults) => {
                let text = faults.iter().fold(format!("{} things are wrong:", faults.len()), |mut text, fault| {
                    // A string takes every write.
                    let _ = write!(text, "\n  {fault}");
                    text
                });
                (json!({ "ok": false, "code": "failed", "faults": faults }), text, REFUSED)
            }
            Said::Refused(Refusal::RulesWrong { faults }) => return Said::Faults(faults).out(as_json),
            Said::Refused(refusal) => {
                let text = format!("no agent would take it: {refusal}");
                (json!({ "ok": false, "code": refusal.code(), "message": refusal.to_string() }), text, REFUSED)
            }
        };
        match (as_json, code) {
            (true, _) => println!("{facts}"),
            (false, 0) => println!("{text}"),
            (false, _) => eprintln!("hub: {}", log::masked(&text)),
        }
        ExitCode::from(code)
    }
}

fn keygen(path: &Path) -> Result<Said, Trouble> {
    if path.exists() {
        return Err(Trouble { code: 2, said: format!("`{}` is there already: name a new file, so that no key is lost", path.display()) });
    }
    let key = Signer::public(&SigningKey::open(path)?);
    let text = format!("{key}\n\nThe private key is in {}. Whoever has that file can sign; keep it where only its holder reaches it.", path.display());
    Ok(Said::Done(json!({ "ok": true, "public_key": key, "file": path }), text))
}

fn sign(command: Sign, now_ms: i64) -> Result<Said, Trouble> {
    let Sign { source, keys, documents, out, .. } = command;
    let mut signers = Vec::new();
    for path in &keys {
        if !path.exists() {
            return Err(Trouble { code: 2, said: format!("`{}` is not there: `hub policy keygen` makes a key", path.display()) });
        }
        signers.push(SigningKey::open(path)?);
    }
    let is_signed = source.extension().is_some_and(|ending| ending == "json");
    let Some(out) = out.or_else(|| is_signed.then(|| source.clone())) else {
        return Err(Trouble { code: 2, said: "say with --out where the signed file goes".to_owned() });
    };
    let documents: Vec<Signed> = documents.iter().map(|path| key_document(path)).collect::<Result<_, _>>()?;
    let done = |text: String, facts: Value, says: String| -> Result<Said, Trouble> {
        std::fs::write(&out, text).with_context(|| format!("`{}` cannot be written", out.display()))?;
        Ok(Said::Done(facts, format!("{says}\nsigned into {}", out.display())))
    };
    if source.is_dir() {
        let files = folder(&source)?;
        let draft = match bundle::compile(&files, now_ms) {
            Ok(draft) => draft,
            Err(faults) => return Ok(Said::Faults(faults)),
        };
        if let Err(faults) = shipped::regime(&draft.content, "", &[], i64::MAX, now_ms, false) {
            return Ok(Said::Faults(faults));
        }
        let mut file = File::seal(&draft, now_ms, chain(documents));
        signers.iter().for_each(|signer| file.sign(signer));
        return done(file.text(), facts_of(&file)?, about(&file)?);
    }
    if bundle::is_key_source(&source.to_string_lossy()) {
        let document = match bundle::compile_keys(&text_of(&source)?) {
            Ok(draft) => draft.issued(now_ms),
            Err(faults) => return Ok(Said::Faults(faults)),
        };
        let mut signed = Signed::new(&document);
        signers.iter().for_each(|signer| signed.sign_keys(signer));
        return done(signed.text(), keys_facts(&signed, &document), about_keys(&signed, &document));
    }
    let text = text_of(&source)?.text;
    if let Ok(mut signed) = Signed::parse(&text)
        && let Some(document) = signed.read::<KeyDocument>()
    {
        signers.iter().for_each(|signer| signed.sign_keys(signer));
        return done(signed.text(), keys_facts(&signed, &document), about_keys(&signed, &document));
    }
    match File::parse(text.as_bytes()) {
        Ok(mut file) => {
            file.keys = chain(file.keys.into_iter().chain(documents).collect());
            signers.iter().for_each(|signer| file.sign(signer));
            done(file.text(), facts_of(&file)?, about(&file)?)
        }
        Err(refusal) => Ok(Said::Refused(refusal)),
    }
}

fn verify(command: Verify, now_ms: i64) -> Result<Said, Trouble> {
    let Verify { file, fleet, roots, threshold, place } = command;
    let trust = match fleet {
        None => authority(&place)?,
        Some(fleet) => {
            let key = |text: &String| {
                PublicKey::parse(text).ok_or_else(|| Trouble { code: 2, said: format!("`{text}` is no public key as `hub policy keygen` prints it") })
            };
            let roots = Roots { keys: roots.iter().map(key).collect::<Result<_, _>>()?, threshold };
            if let Some(fault) = roots.fault() {
                return Err(Trouble { code: 2, said: fault });
            }
            Trust::pinned(&fleet, roots)
        }
    };
    let text = text_of(&file)?.text;
    if let Ok(signed) = Signed::parse(&text)
        && let Some(document) = signed.read::<KeyDocument>()
    {
        return Ok(match trust.advance(std::slice::from_ref(&signed)) {
            Ok(_) => Said::Done(keys_facts(&signed, &document), format!("good: {}", about_keys(&signed, &document))),
            Err(refusal) => Said::Refused(refusal),
        });
    }
    Ok(match bundles::examined(&trust, text.clone(), now_ms) {
        Ok(_) => match File::parse(text.as_bytes()) {
            Ok(file) => Said::Done(facts_of(&file)?, format!("good: {}", about(&file)?)),
            Err(refusal) => Said::Refused(refusal),
        },
        Err(refusal) => Said::Refused(refusal),
    })
}

fn diff(old: &Path, new: &Path, now_ms: i64) -> Result<Said, Trouble> {
    let before = match content(old, now_ms)? {
        Ok(content) => content,
        Err(said) => return Ok(said),
    };
    let after = match content(new, now_ms)? {
        Ok(content) => content,
        Err(said) => return Ok(said),
    };
    let changes = bundle::diff(&before, &after);
    let mut text = if changes.is_empty() { "nothing changes".to_owned() } else { String::new() };
    let mut heading = None;
    for change in &changes {
        if heading != Some(change.weight) {
            heading = Some(change.weight);
            let title = match change.weight {
                bundle::Weight::Looser => "LOOSER: more runs than before",
                bundle::Weight::Tighter => "TIGHTER: more asks than before",
                bundle::Weight::Other => "OTHER",
            };
            let gap = if text.is_empty() { "" } else { "\n\n" };
            let _ = write!(text, "{gap}{title}");
        }
        let _ = write!(text, "\n  {} {}: {}", change.section, change.about, change.says);
    }
    Ok(Said::Done(json!({ "ok": true, "changes": changes }), text))
}

async fn publish(file: &Path, place: &Place, now_ms: i64) -> Result<Said, Trouble> {
    let trust = authority(place)?;
    let store = open(place)?;
    let text = text_of(file)?.text;
    match bundles::publish(&store, &trust, text.trim_end().to_owned(), now_ms).await {
        Ok(record) => {
            let facts = json!({ "ok": true, "version": record.version, "digest": record.digest, "channel": record.channel, "expires_ms": record.expires_ms });
            let says = format!("version {} is published on channel `{}`; agents that are connected have it in a moment.", record.version, record.channel);
            Ok(Said::Done(facts, says))
        }
        Err(Unpublished::Refused(refusal)) => Ok(Said::Refused(refusal)),
        Err(Unpublished::Store(error)) => Err(Trouble { code: REFUSED, said: error.to_string() }),
    }
}

async fn show_published(place: &Place, now_ms: i64) -> Result<Said, Trouble> {
    let store = open(place)?;
    let records = store.bundles().await.context("reading the published policy bundles")?;
    let tenants = store.view(now_ms).await.context("reading the fleet")?;
    let enforced: Vec<Value> = tenants.iter().map(|tenant| json!({ "tenant": tenant.name, "policy": tenant.policy })).collect();
    let published: Vec<Value> = records
        .iter()
        .map(|record| {
            json!({
                "channel": record.channel, "tenants": record.tenants, "version": record.version, "digest": record.digest,
                "keys": record.keys_version, "expires_ms": record.expires_ms, "published_ms": record.published_ms,
            })
        })
        .collect();
    let mut text = if records.is_empty() { "nothing is published: agents enforce what is compiled into them".to_owned() } else { "PUBLISHED".to_owned() };
    for record in &records {
        let whom = if record.tenants.is_empty() { "all tenants".to_owned() } else { record.tenants.join(", ") };
        let _ =
            write!(text, "\n  version {} on `{}` for {whom}, {}, {}", record.version, record.channel, left(record.expires_ms - now_ms), &record.digest[..12]);
    }
    if !tenants.is_empty() {
        text.push_str("\nENFORCED");
    }
    for tenant in &tenants {
        let how = match &tenant.policy {
            None => "has not said".to_owned(),
            Some(policy) => {
                let reason = policy.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
                format!("version {}, {}{reason}", policy.version, super::word(policy.state))
            }
        };
        let _ = write!(text, "\n  {}: {how}", tenant.name);
    }
    Ok(Said::Done(json!({ "ok": true, "published": published, "enforced": enforced }), text))
}

fn show_file(path: &Path, now_ms: i64) -> Result<Said, Trouble> {
    if !path.is_dir() {
        let text = text_of(path)?.text;
        if let Ok(signed) = Signed::parse(&text)
            && let Some(document) = signed.read::<KeyDocument>()
        {
            return Ok(Said::Done(keys_facts(&signed, &document), about_keys(&signed, &document)));
        }
        return Ok(match File::parse(text.as_bytes()) {
            Ok(file) => Said::Done(facts_of(&file)?, about(&file)?),
            Err(refusal) => Said::Refused(refusal),
        });
    }
    Ok(match content(path, now_ms)? {
        Ok(content) => Said::Done(json!({ "ok": true, "content": held(&content) }), in_words(&content)),
        Err(said) => said,
    })
}

/// What a signed bundle or a folder holds; nobody's signature is looked at.
fn content(path: &Path, now_ms: i64) -> Result<Result<Content, Said>, Trouble> {
    if path.is_dir() {
        return Ok(bundle::compile(&folder(path)?, now_ms).map(|draft| draft.content).map_err(Said::Faults));
    }
    let text = text_of(path)?.text;
    Ok(File::parse(text.as_bytes()).and_then(|file| file.content()).map_err(Said::Refused))
}

fn authority(place: &Place) -> Result<Trust, Trouble> {
    let authority = read(place)?.authority;
    authority.map(|authority| authority.trust()).ok_or_else(|| Trouble {
        code: EXIT_CONFIG,
        said: format!("`{}` names no root keys: set policy.fleet and policy.roots, as docs/OPERATING.md shows", place.config.display()),
    })
}

/// Every file of a folder and of the folders in it, by its name from there.
fn folder(path: &Path) -> Result<Vec<Named>, Trouble> {
    let mut files = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).with_context(|| format!("the folder `{}` cannot be read", folder.display()))?;
        for entry in entries {
            let at = entry.with_context(|| format!("the folder `{}` cannot be read", folder.display()))?.path();
            // A version control's own folder, and an editor's leavings.
            if at.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
                continue;
            }
            if at.is_dir() {
                folders.push(at);
                continue;
            }
            let name = at.strip_prefix(path).unwrap_or(&at).to_string_lossy().into_owned();
            files.push(Named { name, ..text_of(&at)? });
            if files.len() > FILES_MAX {
                return Err(Trouble { code: 2, said: format!("`{}` holds more than {FILES_MAX} files: is it the right folder?", path.display()) });
            }
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn text_of(path: &Path) -> Result<Named, Trouble> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path).with_context(|| format!("`{}` cannot be read", path.display()))?;
    file.take(BYTES_MAX as u64 + 1).read_to_string(&mut text).with_context(|| format!("`{}` cannot be read", path.display()))?;
    Ok(Named { name: path.display().to_string(), text })
}

fn key_document(path: &Path) -> Result<Signed, Trouble> {
    let text = text_of(path)?.text;
    Signed::parse(text.trim_end()).map_err(|refusal| Trouble { code: 2, said: format!("`{}` is no signed key document: {refusal}", path.display()) })
}

fn facts_of(file: &File) -> Result<Value, Trouble> {
    let manifest = file.manifest().context("reading the manifest")?;
    let content = file.content().context("reading the content")?;
    let signers: Vec<_> = file.signatures().iter().map(|signature| signature.key).collect();
    Ok(json!({ "ok": true, "digest": file.digest().to_string(), "manifest": manifest, "signed_by": signers, "content": held(&content) }))
}

fn about(file: &File) -> Result<String, Trouble> {
    let manifest = file.manifest().context("reading the manifest")?;
    let content = file.content().context("reading the content")?;
    let signers: Vec<String> = file.signatures().iter().map(|signature| signature.key.to_string()).collect();
    Ok(format!(
        "version {} of fleet `{}` on channel `{}`, {} days\ndigest {}\nsigned by {}\n{}",
        manifest.version,
        manifest.fleet,
        manifest.channel,
        (manifest.expires_ms - manifest.issued_ms) / bundle::DAY_MS,
        file.digest(),
        signers.join(", "),
        in_words(&content),
    ))
}

fn keys_facts(signed: &Signed, document: &KeyDocument) -> Value {
    let signers: Vec<_> = signed.signatures.iter().map(|signature| signature.key).collect();
    json!({ "ok": true, "digest": signed.digest().to_string(), "keys": document, "signed_by": signers })
}

fn about_keys(signed: &Signed, document: &KeyDocument) -> String {
    let have = signed.signatures.iter().filter(|signature| document.roots.keys.contains(&signature.key)).count();
    let missing = document.roots.threshold.saturating_sub(have);
    let waits = if missing > 0 { format!("; {missing} more signatures are needed") } else { String::new() };
    format!(
        "key document {} of fleet `{}`: {} bundle keys, {} revoked, signed by {have} of its {} root keys{waits}",
        document.version,
        document.fleet,
        document.bundle_keys.len(),
        document.revoked.len(),
        document.roots.keys.len(),
    )
}

fn held(content: &Content) -> Value {
    let names = |files: &[Named]| files.iter().map(|named| named.name.clone()).collect::<Vec<_>>();
    json!({
        "rules": names(&content.rules), "tools": names(&content.tools), "levels": content.levels, "gates": content.gates, "exceptions": content.exceptions, "hosts": content.hosts,
        "prices": content.prices, "patterns": names(&content.patterns), "workflows": names(&content.workflows),
    })
}

fn in_words(content: &Content) -> String {
    format!(
        "{} rule files, {} tool files, default level {:?}, {} tools unlocked by default, {} exceptions, {} allowed hosts, {} prices, {} pattern files, {} workflow templates",
        content.rules.len(),
        content.tools.len(),
        content.levels.default,
        content.gates.unlocked.len(),
        content.exceptions.len(),
        content.hosts.len(),
        content.prices.models.len(),
        content.patterns.len(),
        content.workflows.len(),
    )
}

fn left(ms: i64) -> String {
    if ms <= 0 { "expired".to_owned() } else { format!("{} days left", (ms + bundle::DAY_MS - 1) / bundle::DAY_MS) }
}
