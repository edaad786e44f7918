//! The agent's own database: one file, one writer. Each table is owned by one cupboard, which alone speaks SQL to it.

/// Grows at the end only: hosts out there run every prefix of it.
pub(crate) const MIGRATIONS: &[&str] = &[
    "
    -- identity.rs
    CREATE TABLE identity (
        one         INTEGER PRIMARY KEY CHECK (one = 1),
        host_id     TEXT NOT NULL,
        tenant_id   TEXT NOT NULL,
        tenant_name TEXT NOT NULL,
        enrolled_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE assistant (
        id       TEXT PRIMARY KEY,
        name     TEXT NOT NULL,
        agent_id TEXT NOT NULL UNIQUE
    ) STRICT, WITHOUT ROWID;

    -- people.rs
    CREATE TABLE person (
        id            TEXT PRIMARY KEY,
        name          TEXT NOT NULL,
        name_key      TEXT NOT NULL UNIQUE,
        role          TEXT NOT NULL CHECK (role IN ('owner', 'approver', 'member')),
        language      TEXT NOT NULL,
        password_hash TEXT NOT NULL,
        created_ms    INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE first_link (
        one        INTEGER PRIMARY KEY CHECK (one = 1),
        token_hash TEXT NOT NULL,
        created_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE session (
        token_hash TEXT PRIMARY KEY,
        person_id  TEXT NOT NULL REFERENCES person (id),
        created_ms INTEGER NOT NULL,
        expires_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    -- approvals.rs
    CREATE TABLE approval (
        id          TEXT PRIMARY KEY,
        assistant   TEXT NOT NULL,
        session     TEXT NOT NULL,
        call_id     TEXT NOT NULL,
        tool        TEXT NOT NULL,
        class       TEXT NOT NULL,
        external    INTEGER NOT NULL,
        unknown     INTEGER NOT NULL,
        rule        TEXT NOT NULL,
        sentence_de TEXT NOT NULL,
        sentence_en TEXT NOT NULL,
        details     TEXT NOT NULL,
        digest      TEXT NOT NULL,
        created_ms  INTEGER NOT NULL,
        expires_ms  INTEGER NOT NULL,
        state       TEXT NOT NULL CHECK (state IN ('pending', 'approved', 'denied', 'expired', 'used')),
        decided_ms  INTEGER,
        decided_by  TEXT,
        -- How often the session was told of the grant, and when last.
        nudges      INTEGER NOT NULL DEFAULT 0,
        nudged_ms   INTEGER NOT NULL DEFAULT 0,
        outcome     TEXT CHECK (outcome IN ('ok', 'failed'))
    ) STRICT, WITHOUT ROWID;
    -- One question at a time for one call.
    CREATE UNIQUE INDEX approval_open ON approval (assistant, session, digest) WHERE state IN ('pending', 'approved');
    CREATE INDEX approval_by_state ON approval (state, created_ms);

    -- ledger.rs
    CREATE TABLE call (
        session     TEXT NOT NULL,
        call_id     TEXT NOT NULL,
        tool        TEXT NOT NULL,
        digest      TEXT NOT NULL,
        class       TEXT NOT NULL,
        verdict     TEXT NOT NULL CHECK (verdict IN ('run', 'granted', 'refused', 'excused')),
        reason      TEXT,
        approval_id TEXT,
        decided_ms  INTEGER NOT NULL,
        ended_ms    INTEGER,
        -- When its result first went to a provider. From then on it is history, which OpenClaw may shorten.
        seen_ms     INTEGER,
        PRIMARY KEY (session, call_id)
    ) STRICT, WITHOUT ROWID;
    -- The same call in every session that copied another's history.
    CREATE INDEX call_seen ON call (call_id) WHERE seen_ms IS NOT NULL;
    CREATE TABLE proposal (
        session  TEXT NOT NULL,
        call_id  TEXT NOT NULL,
        tool     TEXT NOT NULL,
        is_known INTEGER NOT NULL,
        words    TEXT NOT NULL,
        PRIMARY KEY (session, call_id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE frozen_session (
        session   TEXT PRIMARY KEY,
        call_ids  TEXT NOT NULL,
        since_ms  INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    -- metering.rs
    CREATE TABLE usage_hour (
        hour_ms       INTEGER NOT NULL,
        assistant     TEXT NOT NULL,
        provider      TEXT NOT NULL,
        model         TEXT NOT NULL,
        seq           INTEGER NOT NULL,
        acked_seq     INTEGER NOT NULL DEFAULT 0,
        calls         INTEGER NOT NULL,
        partial       INTEGER NOT NULL,
        input_tokens  INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        PRIMARY KEY (hour_ms, assistant, provider, model)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE model_call (
        id        INTEGER PRIMARY KEY,
        hour_ms   INTEGER NOT NULL,
        assistant TEXT NOT NULL,
        provider  TEXT NOT NULL,
        model     TEXT NOT NULL
    ) STRICT;

    -- vault.rs
    CREATE TABLE secret (
        name       TEXT PRIMARY KEY,
        version    INTEGER NOT NULL,
        nonce      BLOB NOT NULL,
        sealed     BLOB NOT NULL,
        created_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    -- audit.rs
    CREATE TABLE audit (
        n       INTEGER PRIMARY KEY,
        at_ms   INTEGER NOT NULL,
        actor   TEXT NOT NULL,
        deed    TEXT NOT NULL,
        subject TEXT NOT NULL,
        detail  TEXT NOT NULL,
        chain   TEXT NOT NULL
    ) STRICT;
",
    "
    -- vault/mod.rs
    CREATE TABLE vault (
        one        INTEGER PRIMARY KEY CHECK (one = 1),
        -- The key that everything below is sealed with.
        key_id     TEXT NOT NULL,
        -- What fingerprints are made with.
        sealed     BLOB NOT NULL,
        rotated_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE secret_version (
        name        TEXT NOT NULL,
        version     INTEGER NOT NULL,
        state       TEXT NOT NULL CHECK (state IN ('current', 'retired', 'forgotten')),
        -- The value's own key under the vault's key, and the value under its own.
        sealed_key  BLOB,
        sealed      BLOB,
        fingerprint TEXT NOT NULL,
        created_ms  INTEGER NOT NULL,
        retired_ms  INTEGER,
        PRIMARY KEY (name, version),
        CHECK ((state = 'current') = (retired_ms IS NULL)),
        CHECK ((state = 'forgotten') = (sealed IS NULL) AND (sealed IS NULL) = (sealed_key IS NULL))
    ) STRICT;
    CREATE UNIQUE INDEX secret_current ON secret_version (name) WHERE state = 'current';
    CREATE TABLE secret_binding (
        name  TEXT NOT NULL,
        kind  TEXT NOT NULL CHECK (kind IN ('tool', 'host')),
        value TEXT NOT NULL,
        PRIMARY KEY (name, kind, value)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE recovery (
        one        INTEGER PRIMARY KEY CHECK (one = 1),
        public     BLOB NOT NULL,
        created_ms INTEGER NOT NULL
    ) STRICT;
",
    "
    -- bundle.rs
    CREATE TABLE policy_bundle (
        version  INTEGER PRIMARY KEY,
        digest   TEXT NOT NULL,
        file     TEXT NOT NULL,
        taken_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE policy_keys (
        n        INTEGER PRIMARY KEY,
        document TEXT NOT NULL
    ) STRICT;

    -- ledger.rs
    -- What the newest decided calls asked for, masked: so that another law can be tried on them.
    CREATE TABLE decided_call (
        n         INTEGER PRIMARY KEY,
        at_ms     INTEGER NOT NULL,
        assistant TEXT NOT NULL,
        tool      TEXT NOT NULL,
        arguments TEXT NOT NULL,
        workspace TEXT NOT NULL,
        resolved  TEXT NOT NULL,
        is_whole  INTEGER NOT NULL,
        class     TEXT NOT NULL,
        rule      TEXT NOT NULL,
        verdict   TEXT NOT NULL CHECK (verdict IN ('run', 'run_and_notify', 'ask', 'ask_signed', 'not_available'))
    ) STRICT;
",
    "
    -- hosts.rs
    CREATE TABLE allowed_host (
        pattern  TEXT PRIMARY KEY,
        reach    TEXT NOT NULL,
        manner   TEXT NOT NULL,
        added_ms INTEGER NOT NULL,
        added_by TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX approval_denied ON approval (tool, digest, decided_ms) WHERE state = 'denied';
",
];
