//! SQLite with one writer: what is acknowledged is on the disk.
//!
//! Writes are closures over a [`Tx`], so that a caller composes what belongs together into one transaction. The writer
//! takes whatever waits in its queue into one commit (WAL, `synchronous=FULL`): each closure in a savepoint of its own,
//! each caller answered after the commit. What is only journalled is acknowledged when a kill cannot take it any more, and
//! is on the disk before anything that is written after it. Reads run beside it on connections that cannot write.

use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

#[derive(Debug, Error)]
pub enum StoreError {
    #[error("the store `{path}` cannot be opened: {source}")]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error("the store `{path}` is damaged ({source}): it was truncated or overwritten. Keep a copy of it, and put back one from a backup")]
    Damaged { path: PathBuf, source: rusqlite::Error },
    #[error("the store `{path}` was written by a newer version (schema {found}, this build knows {known})")]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("the store refused: {0}")]
    Sql(#[from] rusqlite::Error),
    #[error("the store could not commit: {0}")]
    Commit(String),
    #[error("the store has stopped")]
    Stopped,
}

pub type Result<T> = std::result::Result<T, StoreError>;

/// A transaction in progress. Only the writer makes one, so a function that takes it can only run inside a write.
pub struct Tx<'a>(&'a Connection);

impl Deref for Tx<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.0
    }
}

struct Job {
    work: Box<dyn FnOnce(&Connection) -> Finish + Send>,
    /// It is acknowledged before the disk has it.
    is_journal: bool,
}
/// Tells the caller how the commit went.
type Finish = Box<dyn FnOnce(std::result::Result<(), String>) + Send>;

#[derive(Clone)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
    /// Ends with the writer.
    writer: watch::Receiver<()>,
    readers: Arc<Readers>,
}

struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

/// Writers that may wait before `write` itself waits.
const QUEUE_MAX: usize = 1024;
/// Writes that share one commit: at most a few milliseconds of work, so that nobody waits long for the others.
const BATCH_MAX: usize = 256;
/// Statements that the writer keeps compiled.
const STATEMENTS_MAX: usize = 32;
/// Reading connections that are kept.
const READERS_IDLE_MAX: usize = 2;
/// How long a connection waits for a lock held by another process (the console, a backup).
const BUSY_WAIT_MS: u32 = 5_000;
/// A commit waits for the disk; and one that does not.
const FULL: &str = "PRAGMA synchronous = FULL";
const NORMAL: &str = "PRAGMA synchronous = NORMAL";

impl Store {
    /// Opens or creates the file (0600) and brings its schema up to date: `migrations[n]` leads from version n to n+1.
    pub fn open(path: &Path, migrations: &'static [&'static str]) -> Result<Store> {
        let failed = |source| unopened(path, source);
        if !path.exists() {
            use std::os::unix::fs::OpenOptionsExt;
            std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(path)
                .map_err(|e| StoreError::Commit(format!("`{}` cannot be created: {e}", path.display())))?;
        }
        let mut writer = Connection::open(path).map_err(failed)?;
        prepare(&writer).map_err(failed)?;
        writer.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        migrate(&mut writer, path, migrations).map_err(|error| match error {
            StoreError::Sql(source) if is_damage(&source) => failed(source),
            other => other,
        })?;
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let (ended, running) = watch::channel(());
        let write = move || {
            write_all(&mut writer, queue);
            drop(writer);
            drop(ended);
        };
        std::thread::Builder::new().name("store".into()).spawn(write).map_err(|e| StoreError::Commit(e.to_string()))?;
        Ok(Store { jobs, writer: running, readers: Arc::new(Readers { path: path.to_owned(), idle: Mutex::default() }) })
    }

    /// Returns when the file is closed: SQLite takes its log away by name, and whoever puts another file there must wait for
    /// that. The last clone closes; others go on.
    pub async fn close(self) {
        let Store { jobs, mut writer, readers } = self;
        let is_last = Arc::strong_count(&readers) == 1;
        drop((jobs, readers));
        while is_last && writer.changed().await.is_ok() {}
    }

    /// Closes the connections that nobody reads with at this moment. For a process that has come to rest; the next reader opens one.
    pub fn rest(&self) {
        self.readers.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clear();
    }

    /// Runs `work` in a transaction. When this returns `Ok`, what it did is on the disk; when `Err`, none of it is.
    pub async fn write<T, E, F>(&self, work: F) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Tx) -> std::result::Result<T, E> + Send + 'static,
    {
        self.run(work, false).await
    }

    /// The same for what need not survive a power cut by itself: when this returns `Ok`, it survives the death of this process,
    /// and it is on the disk with the next [`Store::write`], which cannot get there without it.
    pub async fn journal<T, E, F>(&self, work: F) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Tx) -> std::result::Result<T, E> + Send + 'static,
    {
        self.run(work, true).await
    }

    async fn run<T, E, F>(&self, work: F, is_journal: bool) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Tx) -> std::result::Result<T, E> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        // The caller may have gone; the write stands.
        self.turn().await?.run(work, move |outcome| drop(answer.send(outcome)), is_journal);
        answered.await.map_err(|_| StoreError::Stopped)?
    }

    /// A place in the writer's queue, for whoever must not be interrupted between coming to the writer and leaving it something.
    pub async fn turn(&self) -> Result<Turn<'_>> {
        self.jobs.reserve().await.map(Turn).map_err(|_| StoreError::Stopped)
    }

    /// Runs `look` on a connection that cannot write.
    pub async fn read<T, F>(&self, look: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let readers = self.readers.clone();
        let work = move || {
            let idle = readers.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop();
            let connection = match idle {
                Some(connection) => connection,
                None => open_reader(&readers.path)?,
            };
            let value = look(&connection)?;
            let mut idle = readers.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if idle.len() < READERS_IDLE_MAX {
                idle.push(connection);
            }
            Ok(value)
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Stopped)?
    }
}

/// A place in the writer's queue.
pub struct Turn<'a>(mpsc::Permit<'a, Job>);

impl Turn<'_> {
    /// Runs `work` in a transaction, and then `told` on the writer's thread with what came of it.
    pub fn write<T, E, F, G>(self, work: F, told: G)
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Tx) -> std::result::Result<T, E> + Send + 'static,
        G: FnOnce(std::result::Result<T, E>) + Send + 'static,
    {
        self.run(work, told, false);
    }

    fn run<T, E, F, G>(self, work: F, told: G, is_journal: bool)
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Tx) -> std::result::Result<T, E> + Send + 'static,
        G: FnOnce(std::result::Result<T, E>) + Send + 'static,
    {
        let work = Box::new(move |connection: &Connection| {
            let outcome = in_savepoint(connection, work);
            Box::new(move |committed| {
                told(match (outcome, committed) {
                    (Ok(value), Ok(())) => Ok(value),
                    (Ok(_), Err(reason)) => Err(StoreError::Commit(reason).into()),
                    (Err(error), _) => Err(error),
                })
            }) as Finish
        });
        self.0.send(Job { work, is_journal });
    }
}

fn unopened(path: &Path, source: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    if is_damage(&source) { StoreError::Damaged { path, source } } else { StoreError::Open { path, source } }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_millis(BUSY_WAIT_MS.into()))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA trusted_schema = OFF;
         PRAGMA secure_delete = ON;
         PRAGMA cache_size = -1024;
         PRAGMA temp_store = MEMORY;",
    )
}

fn open_reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
    connection.busy_timeout(std::time::Duration::from_millis(BUSY_WAIT_MS.into()))?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -512;")?;
    Ok(connection)
}

fn migrate(connection: &mut Connection, path: &Path, migrations: &[&str]) -> Result<()> {
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = migrations.len() as i64;
    if found > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    for (version, sql) in (1_i64..).zip(migrations).skip(found as usize) {
        let tx = connection.transaction()?;
        tx.execute_batch(sql)?;
        tx.pragma_update(None, "user_version", version)?;
        tx.commit()?;
    }
    Ok(())
}

fn write_all(connection: &mut Connection, mut queue: mpsc::Receiver<Job>) {
    let mut waiting = Vec::new();
    let mut is_full = true;
    while queue.blocking_recv_many(&mut waiting, BATCH_MAX) > 0 {
        let wanted = waiting.iter().any(|job| !job.is_journal);
        // One log: what reaches the disk takes along what was written before it.
        let set = if wanted == is_full { Ok(()) } else { connection.execute_batch(if wanted { FULL } else { NORMAL }) };
        if set.is_ok() {
            is_full = wanted;
        }
        let begun = set.and_then(|()| run(connection, "BEGIN IMMEDIATE")).map_err(|error| error.to_string());
        let finishes: Vec<Finish> = waiting.drain(..).map(|job| (job.work)(connection)).collect();
        let ended = begun.and_then(|()| run(connection, "COMMIT").map_err(|error| error.to_string()));
        if let Err(reason) = &ended {
            tracing::error!(reason, "a commit failed; its writes are refused");
            let _ = run(connection, "ROLLBACK");
        }
        for finish in finishes {
            finish(ended.clone());
        }
    }
}

fn in_savepoint<T, E: From<StoreError>>(connection: &Connection, work: impl FnOnce(&Tx) -> std::result::Result<T, E>) -> std::result::Result<T, E> {
    let sql = |statement: &str| run(connection, statement).map_err(StoreError::Sql);
    if connection.is_autocommit() {
        return Err(StoreError::Commit("the transaction could not begin".into()).into());
    }
    sql("SAVEPOINT job")?;
    let outcome = work(&Tx(connection));
    if outcome.is_err() {
        sql("ROLLBACK TO job")?;
    }
    sql("RELEASE job")?;
    outcome
}

/// One of the few statements around all writes, compiled once.
fn run(connection: &Connection, statement: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(statement)?.execute([]).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &[&str] = &["CREATE TABLE n (v INTEGER PRIMARY KEY)", "ALTER TABLE n ADD COLUMN note TEXT"];

    fn folder() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("gatehouse-store-{}", crate::random::token()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    async fn insert(store: &Store, v: i64) -> Result<()> {
        store.write(move |tx| Ok(tx.execute("INSERT INTO n (v) VALUES (?1)", [v]).map(|_| ())?)).await
    }

    #[tokio::test]
    async fn a_failed_write_leaves_its_neighbours_alone() {
        let folder = folder();
        let store = Store::open(&folder.join("s.db"), SCHEMA).unwrap();
        let outcomes = futures_util::future::join_all((0..64).map(|v| insert(&store, v / 2))).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 32, "each number goes in once");
        let half: Result<()> = store
            .write(|tx| {
                tx.execute("INSERT INTO n (v) VALUES (100)", [])?;
                tx.execute("INSERT INTO n (v) VALUES (1)", [])?;
                Ok(())
            })
            .await;
        assert!(half.is_err());
        let count: i64 = store.read(|c| c.query_row("SELECT count(*) FROM n", [], |row| row.get(0))).await.unwrap();
        assert_eq!(count, 32);
        let written = store.read(|c| c.execute("DELETE FROM n", [])).await;
        assert!(written.is_err(), "a reader cannot write");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn a_damaged_file_is_said_to_be_damaged() {
        let folder = folder();
        let path = folder.join("s.db");
        let store = Store::open(&path, SCHEMA).unwrap();
        for v in 0..50 {
            insert(&store, v).await.unwrap();
        }
        drop(store);
        // The file as it lies when nobody has it open.
        let copy = folder.join("copy.db");
        Connection::open(&path).unwrap().execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
        let whole = std::fs::read(&copy).unwrap();
        let overwritten = [b"no database at all".repeat(20), whole[360..].to_vec()].concat();
        for bytes in [&whole[..whole.len() / 2], &whole[..300], &overwritten] {
            std::fs::write(&copy, bytes).unwrap();
            let error = Store::open(&copy, SCHEMA).err().expect("it is refused");
            assert!(matches!(error, StoreError::Damaged { .. }), "{} bytes: {error}", bytes.len());
            assert_eq!(std::fs::read(&copy).unwrap(), bytes, "it is left for somebody to look at");
        }
        std::fs::write(&copy, &whole).unwrap();
        Store::open(&copy, SCHEMA).unwrap();
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn schemas_grow_and_a_newer_one_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = folder();
        let path = folder.join("s.db");
        drop(Store::open(&path, &SCHEMA[..1]).unwrap());
        let store = Store::open(&path, SCHEMA).unwrap();
        assert_eq!(store.read(|c| c.query_row("SELECT count(note) FROM n", [], |row| row.get::<_, i64>(0))).await.unwrap(), 0);
        assert!(matches!(Store::open(&path, &SCHEMA[..1]), Err(StoreError::Newer { found: 2, known: 1, .. })));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
