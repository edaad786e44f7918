//! The store on SQLite: one file a noun, each owning its tables.

pub(super) mod audit;
pub(super) mod bundle;
pub(super) mod enrolment;
mod heartbeat;
mod operator;
pub(super) mod step;
pub(super) mod tenant;
mod usage;
mod view;

use std::str::FromStr;

/// Grows at the end only: hubs out there run every prefix of it.
pub(super) const MIGRATIONS: &[&str] = &[
    "
    -- tenant.rs
    CREATE TABLE tenant (
        id         TEXT PRIMARY KEY,
        name       TEXT NOT NULL UNIQUE,
        url        TEXT NOT NULL,
        provider   TEXT NOT NULL CHECK (provider IN ('local', 'elsewhere')),
        state      TEXT NOT NULL CHECK (state IN ('provisioning', 'ready', 'needs_operator')),
        created_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE assistant (
        id        TEXT PRIMARY KEY,
        tenant_id TEXT NOT NULL REFERENCES tenant (id),
        n         INTEGER NOT NULL,
        name      TEXT NOT NULL,
        UNIQUE (tenant_id, n)
    ) STRICT, WITHOUT ROWID;

    -- enrolment.rs
    CREATE TABLE enrolment (
        token_hash TEXT PRIMARY KEY,
        tenant_id  TEXT NOT NULL REFERENCES tenant (id),
        expires_ms INTEGER NOT NULL,
        host_id    TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE host (
        id            TEXT PRIMARY KEY,
        tenant_id     TEXT NOT NULL REFERENCES tenant (id),
        public_key    TEXT NOT NULL UNIQUE,
        agent_version TEXT NOT NULL,
        enrolled_ms   INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    -- heartbeat.rs
    CREATE TABLE heartbeat (
        tenant_id     TEXT PRIMARY KEY REFERENCES tenant (id),
        seen_ms       INTEGER NOT NULL,
        agent_version TEXT NOT NULL,
        gateway       TEXT NOT NULL,
        findings      TEXT NOT NULL,
        approvals     TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    -- usage.rs
    CREATE TABLE usage_hour (
        tenant_id     TEXT NOT NULL REFERENCES tenant (id),
        hour_ms       INTEGER NOT NULL,
        assistant     TEXT NOT NULL,
        provider      TEXT NOT NULL,
        model         TEXT NOT NULL,
        seq           INTEGER NOT NULL,
        calls         INTEGER NOT NULL,
        partial       INTEGER NOT NULL,
        input_tokens  INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        PRIMARY KEY (tenant_id, hour_ms, assistant, provider, model)
    ) STRICT, WITHOUT ROWID;

    -- operator.rs
    CREATE TABLE operator_password (
        one           INTEGER PRIMARY KEY CHECK (one = 1),
        password_hash TEXT NOT NULL
    ) STRICT;
    CREATE TABLE operator_session (
        token_hash  TEXT PRIMARY KEY,
        operator_id TEXT NOT NULL,
        expires_ms  INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    -- step.rs
    CREATE TABLE step (
        tenant_id  TEXT NOT NULL REFERENCES tenant (id),
        n          INTEGER NOT NULL,
        name       TEXT NOT NULL,
        state      TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'failed')),
        error      TEXT,
        tries      INTEGER NOT NULL,
        changed_ms INTEGER NOT NULL,
        PRIMARY KEY (tenant_id, n)
    ) STRICT, WITHOUT ROWID;
",
    "
    -- bundle.rs
    CREATE TABLE bundle (
        n            INTEGER PRIMARY KEY AUTOINCREMENT,
        channel      TEXT NOT NULL,
        tenants      TEXT NOT NULL,
        version      INTEGER NOT NULL,
        digest       TEXT NOT NULL,
        keys_version INTEGER NOT NULL,
        file         TEXT NOT NULL,
        text         TEXT NOT NULL,
        expires_ms   INTEGER NOT NULL,
        published_ms INTEGER NOT NULL
    ) STRICT;

    -- heartbeat.rs
    ALTER TABLE heartbeat ADD COLUMN policy TEXT;
",
    "
    -- usage.rs
    ALTER TABLE usage_hour ADD COLUMN catalogue INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage_hour ADD COLUMN estimated INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage_hour ADD COLUMN cache_write_tokens INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage_hour ADD COLUMN cache_write_long_tokens INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage_hour ADD COLUMN reasoning_tokens INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage_hour ADD COLUMN tool_requests INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage_hour ADD COLUMN cost_nano_usd INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage_hour ADD COLUMN unpriced INTEGER NOT NULL DEFAULT 0;
",
    "
    -- audit.rs
    CREATE TABLE audit_anchor (
        tenant_id TEXT NOT NULL REFERENCES tenant (id),
        count     INTEGER NOT NULL,
        head      TEXT NOT NULL,
        seen_ms   INTEGER NOT NULL,
        PRIMARY KEY (tenant_id, count)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE audit_break (
        tenant_id TEXT PRIMARY KEY REFERENCES tenant (id),
        code      TEXT NOT NULL,
        -- Of the newest head that still fitted.
        count     INTEGER NOT NULL,
        since_ms  INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    "
    -- heartbeat.rs
    ALTER TABLE heartbeat ADD COLUMN asks TEXT;
",
];

/// A column that holds a typed text, such as an id.
fn parsed<T>(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error)))
}

/// A column that holds a word of an enum, as serde writes it.
fn word<T: serde::de::DeserializeOwned>(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_value(text.into()).map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error)))
}

/// A column that holds JSON of ours.
fn json<T: serde::de::DeserializeOwned>(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error)))
}

/// The word of an enum, as serde writes it.
fn named(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
