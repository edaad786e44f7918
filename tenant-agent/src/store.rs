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
    -- ledger.rs
    -- When the agent's own tools took the verdict.
    ALTER TABLE call ADD COLUMN claimed_ms INTEGER;
    CREATE INDEX call_open ON call (digest) WHERE claimed_ms IS NULL AND ended_ms IS NULL AND seen_ms IS NULL AND verdict IN ('run', 'granted');
",
    "
    -- metering.rs
    ALTER TABLE usage_hour ADD COLUMN catalogue INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage_hour ADD COLUMN estimated INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage_hour ADD COLUMN cache_write_tokens INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage_hour ADD COLUMN cache_write_long_tokens INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage_hour ADD COLUMN reasoning_tokens INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage_hour ADD COLUMN tool_requests INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage_hour ADD COLUMN cost_nano_usd INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage_hour ADD COLUMN unpriced INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE model_call ADD COLUMN run TEXT NOT NULL DEFAULT '';
    ALTER TABLE model_call ADD COLUMN at_most_nano_usd INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE model_call ADD COLUMN catalogue INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE model_call ADD COLUMN unpriced INTEGER NOT NULL DEFAULT 0;

    -- budget.rs
    CREATE TABLE spending (
        -- An assistant, or `tenant` for all of them.
        whose             TEXT NOT NULL,
        span              TEXT NOT NULL CHECK (span IN ('run', 'day', 'month')),
        -- Which run, day or month.
        part              TEXT NOT NULL,
        spent_nano_usd    INTEGER NOT NULL,
        -- What calls that run now may still cost.
        reserved_nano_usd INTEGER NOT NULL,
        -- The highest share in percent that somebody was told of.
        alerted           INTEGER NOT NULL DEFAULT 0,
        touched_ms        INTEGER NOT NULL,
        PRIMARY KEY (whose, span, part)
    ) STRICT, WITHOUT ROWID;

    -- metering.rs
    CREATE TABLE prompt_prefix (
        assistant TEXT NOT NULL,
        model     TEXT NOT NULL,
        digest    TEXT NOT NULL,
        first_ms  INTEGER NOT NULL,
        last_ms   INTEGER NOT NULL,
        calls     INTEGER NOT NULL,
        PRIMARY KEY (assistant, model, digest)
    ) STRICT, WITHOUT ROWID;
",
    "
    -- approvals.rs
    CREATE TABLE approval_next (
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
        number      TEXT NOT NULL,
        created_ms  INTEGER NOT NULL,
        expires_ms  INTEGER NOT NULL,
        state       TEXT NOT NULL CHECK (state IN ('pending', 'approved', 'denied', 'expired', 'used', 'superseded', 'cancelled')),
        scope       TEXT NOT NULL DEFAULT 'once' CHECK (scope IN ('once', 'day')),
        decided_ms  INTEGER,
        decided_by  TEXT,
        signed_by   TEXT,
        -- The signed statement with its proof, as it came.
        evidence    TEXT,
        denial      TEXT,
        -- How often the session was told of the grant or the denial, and when last.
        nudges      INTEGER NOT NULL DEFAULT 0,
        nudged_ms   INTEGER NOT NULL DEFAULT 0,
        outcome     TEXT CHECK (outcome IN ('ok', 'failed'))
    ) STRICT, WITHOUT ROWID;
    INSERT INTO approval_next (id, assistant, session, call_id, tool, class, external, unknown, rule, sentence_de, sentence_en, details, digest, number,
            created_ms, expires_ms, state, decided_ms, decided_by, nudges, nudged_ms, outcome)
        SELECT id, assistant, session, call_id, tool, class, external, unknown, rule, sentence_de, sentence_en, details, digest, abs(random() % 90) + 10,
            created_ms, expires_ms, state, decided_ms, decided_by, nudges, nudged_ms, outcome FROM approval;
    DROP TABLE approval;
    ALTER TABLE approval_next RENAME TO approval;
    -- One question at a time for one call.
    CREATE UNIQUE INDEX approval_open ON approval (assistant, session, digest) WHERE state IN ('pending', 'approved');
    CREATE INDEX approval_by_state ON approval (state, created_ms);

    -- devices/mod.rs
    CREATE TABLE device (
        id         TEXT PRIMARY KEY,
        person_id  TEXT NOT NULL REFERENCES person (id),
        kind       TEXT NOT NULL CHECK (kind IN ('key', 'passkey')),
        name       TEXT NOT NULL,
        -- The point of P-256, uncompressed.
        public_key BLOB NOT NULL UNIQUE,
        credential TEXT,
        sign_count INTEGER NOT NULL DEFAULT 0,
        added_ms   INTEGER NOT NULL,
        added_by   TEXT NOT NULL CHECK (added_by IN ('first', 'device', 'code', 'recovery', 'console', 'reset')),
        used_ms    INTEGER,
        removed_ms INTEGER,
        CHECK ((kind = 'passkey') = (credential IS NOT NULL))
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX device_by_person ON device (person_id) WHERE removed_ms IS NULL;
    -- Until they would be late by any clock.
    CREATE TABLE used_nonce (
        device_id  TEXT NOT NULL,
        nonce      TEXT NOT NULL,
        expires_ms INTEGER NOT NULL,
        PRIMARY KEY (device_id, nonce)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE device_code (
        id         TEXT PRIMARY KEY,
        person_id  TEXT NOT NULL REFERENCES person (id),
        kind       TEXT NOT NULL CHECK (kind IN ('code', 'recovery', 'console')),
        hash       TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        expires_ms INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE device_reset (
        person_id TEXT PRIMARY KEY REFERENCES person (id),
        asked_ms  INTEGER NOT NULL,
        ripe_ms   INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    "
    -- people.rs
    -- Whoever stands here is held to these assistants; everybody else has all of them.
    CREATE TABLE person_assistant (
        person_id TEXT NOT NULL REFERENCES person (id),
        assistant TEXT NOT NULL,
        may       TEXT NOT NULL CHECK (may IN ('see', 'decide')),
        PRIMARY KEY (person_id, assistant)
    ) STRICT, WITHOUT ROWID;
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
    "
    -- mail/sent.rs
    CREATE TABLE letter (
        key    TEXT PRIMARY KEY,
        digest TEXT NOT NULL,
        state  TEXT NOT NULL CHECK (state IN ('intended', 'sent', 'failed')),
        at_ms  INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX letter_by_digest ON letter (digest, state);
",
    "
    -- levels.rs
    CREATE TABLE tenant_choice (
        assistant TEXT NOT NULL,
        -- What it is a choice of: the level, `ask_red`, or a tool's gate.
        about     TEXT NOT NULL,
        change    TEXT NOT NULL,
        set_ms    INTEGER NOT NULL,
        set_by    TEXT NOT NULL,
        -- The question that was answered, where one was; the signature stands there.
        approval  TEXT,
        PRIMARY KEY (assistant, about)
    ) STRICT, WITHOUT ROWID;

    -- pauses.rs
    CREATE TABLE paused_assistant (
        assistant TEXT PRIMARY KEY,
        since_ms  INTEGER NOT NULL,
        by        TEXT NOT NULL,
        approval  TEXT
    ) STRICT, WITHOUT ROWID;

    -- first_hour/mod.rs
    -- One template at a time for each assistant; the last one stays to be looked at.
    CREATE TABLE first_hour (
        assistant  TEXT PRIMARY KEY,
        run        TEXT NOT NULL,
        blueprint  TEXT NOT NULL,
        language   TEXT NOT NULL,
        started_ms INTEGER NOT NULL,
        started_by TEXT NOT NULL,
        ended_ms   INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE first_hour_step (
        assistant TEXT NOT NULL,
        n         INTEGER NOT NULL,
        state     TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'skipped', 'failed')),
        attempt   INTEGER NOT NULL,
        since_ms  INTEGER NOT NULL,
        -- When the assistant was told, in a step that it works on.
        told_ms   INTEGER,
        why       TEXT,
        PRIMARY KEY (assistant, n)
    ) STRICT, WITHOUT ROWID;

    -- approvals.rs
    CREATE INDEX approval_created ON approval (created_ms);
",
    "
    -- ledger.rs
    -- Sessions of sub-assistants, each with the verdict that let it be.
    CREATE TABLE sub_session (
        session  TEXT PRIMARY KEY,
        parent   TEXT NOT NULL,
        depth    INTEGER NOT NULL,
        since_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX call_spawn ON call (decided_ms) WHERE tool = 'sessions_spawn';
",
];
