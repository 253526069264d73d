-- A peer store as version 1 wrote it, with one peer: no bans, no anchors, and introductions that do
-- not say of which record they are.

CREATE TABLE counts (name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE peers (
  id INTEGER PRIMARY KEY,
  key BLOB NOT NULL UNIQUE,
  node BLOB NOT NULL,
  seq INTEGER NOT NULL DEFAULT 0,
  recorded INTEGER NOT NULL GENERATED ALWAYS AS (seq > 0) VIRTUAL,
  first_seen REAL NOT NULL,
  last_seen REAL NOT NULL,
  connected REAL,
  visits INTEGER NOT NULL DEFAULT 0,
  worth INTEGER NOT NULL,
  said BLOB,
  signed BLOB
);
CREATE INDEX peers_by_node ON peers (recorded, node);
CREATE INDEX peers_by_worth ON peers (worth);
INSERT INTO counts VALUES ('peers', 0);
CREATE TRIGGER peers_more AFTER INSERT ON peers BEGIN
UPDATE counts SET n = n + 1 WHERE name = 'peers'; END;
CREATE TRIGGER peers_less AFTER DELETE ON peers BEGIN
UPDATE counts SET n = n - 1 WHERE name = 'peers'; END;
INSERT INTO counts VALUES ('records', 0);
CREATE TRIGGER records_first AFTER INSERT ON peers WHEN new.seq > 0 BEGIN
UPDATE counts SET n = n + 1 WHERE name = 'records'; END;
CREATE TRIGGER records_more AFTER UPDATE OF seq ON peers
WHEN old.seq = 0 AND new.seq > 0 BEGIN
UPDATE counts SET n = n + 1 WHERE name = 'records'; END;
CREATE TRIGGER records_less AFTER DELETE ON peers WHEN old.seq > 0 BEGIN
UPDATE counts SET n = n - 1 WHERE name = 'records'; END;
CREATE TABLE endpoints (
  peer INTEGER NOT NULL REFERENCES peers ON DELETE CASCADE,
  endpoint TEXT NOT NULL,
  last_success REAL,
  last_failure REAL,
  failures INTEGER NOT NULL DEFAULT 0,
  recorded REAL,
  PRIMARY KEY (peer, endpoint)
) WITHOUT ROWID;
CREATE INDEX endpoints_by_claim ON endpoints (endpoint, last_success, recorded);
INSERT INTO counts VALUES ('endpoints', 0);
CREATE TRIGGER endpoints_more AFTER INSERT ON endpoints BEGIN
UPDATE counts SET n = n + 1 WHERE name = 'endpoints'; END;
CREATE TRIGGER endpoints_less AFTER DELETE ON endpoints BEGIN
UPDATE counts SET n = n - 1 WHERE name = 'endpoints'; END;
CREATE TABLE protocols (
  peer INTEGER NOT NULL REFERENCES peers ON DELETE CASCADE,
  name TEXT NOT NULL,
  node BLOB NOT NULL,
  worth INTEGER NOT NULL,
  PRIMARY KEY (peer, name)
) WITHOUT ROWID;
CREATE INDEX protocols_by_node ON protocols (name, node);
CREATE INDEX protocols_by_worth ON protocols (name, worth);
CREATE TABLE introductions (
  peer INTEGER NOT NULL REFERENCES peers ON DELETE CASCADE,
  introducer BLOB NOT NULL,
  network TEXT NOT NULL,
  at REAL NOT NULL,
  wrong INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (peer, introducer)
) WITHOUT ROWID;
INSERT INTO counts VALUES ('introductions', 0);
CREATE TRIGGER introductions_more AFTER INSERT ON introductions BEGIN
UPDATE counts SET n = n + 1 WHERE name = 'introductions'; END;
CREATE TRIGGER introductions_less AFTER DELETE ON introductions BEGIN
UPDATE counts SET n = n - 1 WHERE name = 'introductions'; END;
CREATE TABLE tickets (
  id INTEGER PRIMARY KEY,
  peer INTEGER NOT NULL REFERENCES peers ON DELETE CASCADE,
  direction TEXT NOT NULL CHECK (direction IN ('dial', 'accept')),
  name BLOB NOT NULL UNIQUE,
  psk BLOB NOT NULL,
  expires REAL NOT NULL
);
CREATE INDEX tickets_by_peer ON tickets (peer, direction);
CREATE INDEX tickets_by_expiry ON tickets (expires);
INSERT INTO counts VALUES ('tickets', 0);
CREATE TRIGGER tickets_more AFTER INSERT ON tickets BEGIN
UPDATE counts SET n = n + 1 WHERE name = 'tickets'; END;
CREATE TRIGGER tickets_less AFTER DELETE ON tickets BEGIN
UPDATE counts SET n = n - 1 WHERE name = 'tickets'; END;

INSERT INTO peers (id, key, node, seq, first_seen, last_seen, connected, visits, worth, said, signed)
VALUES (1,
  x'4bf425b0ceba98fdd92f7cd55d1064b17e1a1e56beb6a684866ef89559138583',
  x'ae15e5947b5c3031d49abe326aaf1532616f796a4b89dfcdc6c75ea91f7cb22e',
  1, 1700000000.0, 1700000000.0, 1700000000.0, 1, 472366,
  x'9391b4746370343a2f2f31302e302e302e313a3436313791a463686174c2',
  x'7369676e6174757265206f6620312c2031');
INSERT INTO endpoints (peer, endpoint, last_success, recorded)
VALUES (1, 'tcp4://10.0.0.1:4617', 1700000000.0, 1700000000.0);
INSERT INTO protocols (peer, name, node, worth)
SELECT id, 'chat', node, worth FROM peers;
INSERT INTO introductions (peer, introducer, network, at)
VALUES (1,
  x'067841411c732b93a25751b70fef577bcb4ca234193a930ab229eeae089b2a5a',
  '192.0.2.0/24', 1700000000.0);
INSERT INTO tickets (peer, direction, name, psk, expires)
VALUES (1, 'dial',
  x'7fe09c5bbb340248fde69335f329ea9a',
  x'51994480e51200fd172ff94198257a0dd6ca9cb200632d4383213cbc57a70baf',
  1700086400.0);
INSERT INTO meta VALUES ('sequence', 41);

PRAGMA application_id = 1685074544;
PRAGMA user_version = 1;
