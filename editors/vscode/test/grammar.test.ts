import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import * as oniguruma from "vscode-oniguruma";
import * as textmate from "vscode-textmate";

// The tests run from out/test.
const HERE = join(__dirname, "..", "..");
const ROOT = join(HERE, "..", "..");

async function grammar(): Promise<textmate.IGrammar> {
    const engine = readFileSync(require.resolve("vscode-oniguruma/release/onig.wasm"));
    await oniguruma.loadWASM(engine.buffer.slice(engine.byteOffset, engine.byteOffset + engine.byteLength));
    const registry = new textmate.Registry({
        onigLib: Promise.resolve({
            createOnigScanner: (patterns) => new oniguruma.OnigScanner(patterns),
            createOnigString: (text) => new oniguruma.OnigString(text),
        }),
        loadGrammar: async (scope) => {
            const path = join(HERE, "syntaxes", "stead.tmLanguage.json");
            return scope === "source.stead" ? textmate.parseRawGrammar(readFileSync(path, "utf8"), path) : null;
        },
    });
    const found = await registry.loadGrammar("source.stead");
    assert.ok(found !== null);
    return found;
}

/** Each token with its innermost scope, without blanks. */
function tokens(found: textmate.IGrammar, text: string): [string, string][] {
    let state = textmate.INITIAL;
    return text.split("\n").flatMap((line) => {
        const { tokens, ruleStack } = found.tokenizeLine(line, state);
        state = ruleStack;
        return tokens
            .map((one): [string, string] => [line.slice(one.startIndex, one.endIndex), one.scopes.at(-1) ?? ""])
            .filter(([word]) => word.trim() !== "");
    });
}

test("words of a project file have their scopes", async () => {
    const found = await grammar();
    const scope = (text: string, word: string) => tokens(found, text).find(([one]) => one.includes(word))?.[1];
    assert.equal(scope("container \"web\" {", "container"), "entity.name.tag.stead");
    assert.equal(scope("container \"web\" {", "web"), "string.quoted.double.stead");
    assert.equal(scope("    publish 8080 to=80", "to"), "entity.other.attribute-name.stead");
    assert.equal(scope("    publish 8080 to=80", "8080"), "constant.numeric.stead");
    assert.equal(scope("network \"back\" internal=#true", "#true"), "constant.language.stead");
    assert.equal(scope("image \"x:${tag}\"", "${tag}"), "variable.other.stead");
    assert.equal(scope("a // b", "// b"), "comment.line.double-slash.stead");
    assert.equal(scope("limits { cpus 1; memory \"1GiB\"; }", "memory"), "entity.name.tag.stead");
    assert.equal(scope("run \"make install\" network=#true", "make"), "meta.embedded.shell.stead");
    assert.equal(scope("run \"make install\" network=#true", "network"), "entity.other.attribute-name.stead");
    assert.equal(scope("x #\"a \"b\" c\"# y=1", "y"), "entity.other.attribute-name.stead");
    assert.equal(scope("/* a\n/* b */ c */\nd", "d"), "entity.name.tag.stead");
});

test("every example of the repository ends outside of all strings and comments", async () => {
    const found = await grammar();
    for (const path of ["examples/hello/stead.kdl", "examples/shop/stead.kdl", "src/spec/testdata/design.kdl"]) {
        const last = tokens(found, `${readFileSync(join(ROOT, path), "utf8")}\nlast 1\n`).slice(-2);
        assert.deepEqual(last, [["last", "entity.name.tag.stead"], ["1", "constant.numeric.stead"]], path);
    }
});
