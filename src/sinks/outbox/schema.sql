CREATE TABLE IF NOT EXISTS outbox_revision (
    entry INTEGER PRIMARY KEY,
    revision_id TEXT NOT NULL UNIQUE,
    finding_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    rule TEXT NOT NULL,
    severity TEXT NOT NULL,
    lifecycle TEXT NOT NULL,
    at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS outbox_revision_created ON outbox_revision (created_at);

CREATE TABLE IF NOT EXISTS outbox_delivery (
    entry INTEGER NOT NULL REFERENCES outbox_revision (entry),
    sink TEXT NOT NULL,
    finding_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'dead')),
    attempts INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    settled_at INTEGER,
    last_error TEXT,
    PRIMARY KEY (entry, sink)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS outbox_delivery_order ON outbox_delivery (sink, finding_id, revision) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS outbox_delivery_due ON outbox_delivery (sink, next_at, entry, created_at)
    WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS outbox_delivery_dead ON outbox_delivery (sink, settled_at) WHERE state = 'dead';

-- One row a sink: what waits for it, and how it stands (sinks::standing).
CREATE TABLE IF NOT EXISTS outbox_sink (
    sink TEXT PRIMARY KEY,
    pending INTEGER NOT NULL DEFAULT 0,
    pending_bytes INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'ok',
    failures INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER,
    since INTEGER,
    reason TEXT
) STRICT, WITHOUT ROWID;

CREATE TRIGGER IF NOT EXISTS outbox_delivery_put AFTER INSERT ON outbox_delivery BEGIN
    INSERT INTO outbox_sink (sink, pending, pending_bytes) VALUES (new.sink, 1, new.bytes)
        ON CONFLICT (sink) DO UPDATE SET pending = pending + 1, pending_bytes = pending_bytes + new.bytes;
END;
CREATE TRIGGER IF NOT EXISTS outbox_delivery_changed AFTER UPDATE OF state ON outbox_delivery
WHEN old.state <> new.state BEGIN
    UPDATE outbox_sink SET
        pending = pending + (new.state = 'pending') - (old.state = 'pending'),
        pending_bytes = pending_bytes + new.bytes * ((new.state = 'pending') - (old.state = 'pending')),
        dead = dead + (new.state = 'dead') - (old.state = 'dead')
    WHERE sink = new.sink;
END;
CREATE TRIGGER IF NOT EXISTS outbox_delivery_gone AFTER DELETE ON outbox_delivery WHEN old.state <> 'delivered' BEGIN
    UPDATE outbox_sink SET
        pending = pending - (old.state = 'pending'),
        pending_bytes = pending_bytes - old.bytes * (old.state = 'pending'),
        dead = dead - (old.state = 'dead')
    WHERE sink = old.sink;
END;
