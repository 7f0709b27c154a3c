import assert from "node:assert/strict";
import { test } from "node:test";
import { listing, quoted, server, words } from "../src/commands";

const ROOT = { path: "stead", sudo: true };

test("commands that need root run with sudo, and others do not", () => {
    assert.deepEqual(words("up", undefined, ROOT), ["sudo", "stead", "up"]);
    assert.deepEqual(words("logs", "web-1", ROOT), ["sudo", "stead", "logs", "--follow", "web-1"]);
    assert.deepEqual(words("why", "web", ROOT), ["stead", "why", "web"]);
    assert.deepEqual(words("down", undefined, { path: "/opt/stead", sudo: false }), ["/opt/stead", "down"]);
    assert.deepEqual(listing(ROOT), ["sudo", "-n", "stead", "ps", "--all", "--json"]);
    assert.deepEqual(server(ROOT), { command: "stead", args: ["lsp"] });
});

test("what is no name is no argument", () => {
    for (const name of ["--volumes", "", "a b", "$(x)", "a;b"]) {
        assert.throws(() => words("logs", name, ROOT), /is no name/);
    }
});

test("words are quoted for a shell", () => {
    assert.equal(quoted("/opt/stead"), "/opt/stead");
    assert.equal(quoted("/my programs/it's"), "'/my programs/it'\\''s'");
});
