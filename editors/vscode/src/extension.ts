// The parts that need VS Code: commands in a terminal, the tree, and the language server.

import { execFile } from "node:child_process";
import * as vscode from "vscode";
import { LanguageClient } from "vscode-languageclient/node";
import { Action, Settings, listing, quoted, server, words } from "./commands";
import { Item, items, parse } from "./tree";

let client: LanguageClient | undefined;

/** How often the tree is read while it is visible, in milliseconds. */
const INTERVAL = 3000;

function settings(): Settings {
    const found = vscode.workspace.getConfiguration("stead");
    return { path: found.get("path", "stead"), sudo: found.get("sudo", true) };
}

/** The directory of the project: that of the file in the editor, or the first that has one. */
async function folder(): Promise<string | undefined> {
    const open = vscode.window.activeTextEditor?.document;
    if (open?.languageId === "stead") {
        return vscode.Uri.joinPath(open.uri, "..").fsPath;
    }
    const [found] = await vscode.workspace.findFiles("**/stead.kdl", "**/node_modules/**", 1);
    return found && vscode.Uri.joinPath(found, "..").fsPath;
}

/** The containers of the project. */
class Containers implements vscode.TreeDataProvider<Item> {
    private readonly changed = new vscode.EventEmitter<void>();
    readonly onDidChangeTreeData = this.changed.event;
    private last = "";
    /** Where the tree is shown; what went wrong is said there. */
    view: vscode.TreeView<Item> | undefined;

    refresh(): void {
        this.changed.fire();
    }

    getTreeItem(item: Item): vscode.TreeItem {
        const shown = new vscode.TreeItem(item.label);
        shown.description = item.description;
        shown.tooltip = item.tooltip;
        shown.iconPath = new vscode.ThemeIcon(item.icon);
        shown.contextValue = "container";
        const [link] = item.links;
        if (link !== undefined) {
            shown.command = { command: "vscode.open", title: "Open", arguments: [vscode.Uri.parse(link)] };
        }
        return shown;
    }

    async getChildren(item?: Item): Promise<Item[]> {
        const cwd = item ? undefined : await folder();
        if (cwd === undefined) {
            return [];
        }
        const [program = "stead", ...rest] = listing(settings());
        return new Promise((resolve) => {
            execFile(program, rest, { cwd, timeout: 10_000 }, (error, out, err) => {
                let told = error ? err.trim().split("\n")[0] ?? error.message : "";
                let found: Item[] = [];
                if (!error) {
                    try {
                        found = items(parse(out));
                    } catch (wrong) {
                        told = wrong instanceof Error ? wrong.message : String(wrong);
                    }
                }
                if (this.view !== undefined) {
                    this.view.message = told === "" ? undefined : told;
                }
                this.last = out;
                resolve(found);
            });
        });
    }

    /** Reads the list again, and shows it only if it is another one. */
    async poll(): Promise<void> {
        const cwd = await folder();
        if (cwd === undefined) {
            return;
        }
        const [program = "stead", ...rest] = listing(settings());
        execFile(program, rest, { cwd, timeout: 10_000 }, (error, out) => {
            if (!error && out !== this.last) {
                this.refresh();
            }
        });
    }
}

async function run(action: Action, item: Item | undefined): Promise<void> {
    const cwd = await folder();
    if (cwd === undefined) {
        await vscode.window.showErrorMessage("There is no stead.kdl in this workspace: `stead init` writes one.");
        return;
    }
    let name = item?.label;
    if (action === "why" && name === undefined) {
        name = await vscode.window.showInputBox({ prompt: "A container, image, network or volume" });
        if (name === undefined) {
            return;
        }
    }
    const line = words(action, name, settings()).map(quoted).join(" ");
    const terminal = vscode.window.createTerminal({ name: `stead ${action}`, cwd });
    terminal.show();
    terminal.sendText(line);
}

export async function activate(context: vscode.ExtensionContext): Promise<void> {
    const containers = new Containers();
    const view = vscode.window.createTreeView("stead.containers", { treeDataProvider: containers });
    containers.view = view;
    const timer = setInterval(() => {
        if (view.visible) {
            void containers.poll();
        }
    }, INTERVAL);
    context.subscriptions.push(view, new vscode.Disposable(() => clearInterval(timer)));
    for (const action of ["up", "down", "logs", "why"] as const) {
        context.subscriptions.push(vscode.commands.registerCommand(`stead.${action}`, (item?: Item) => run(action, item)));
    }
    context.subscriptions.push(vscode.commands.registerCommand("stead.refresh", () => containers.refresh()));
    await vscode.commands.executeCommand("setContext", "stead.hasProject", (await folder()) !== undefined);
    client = new LanguageClient("stead", "stead", server(settings()), { documentSelector: [{ language: "stead" }] });
    try {
        await client.start();
    } catch (error) {
        // Without the server there are still colours, the tree and the commands.
        void vscode.window.showWarningMessage(`\`stead lsp\` does not start: ${error instanceof Error ? error.message : String(error)}`);
    }
}

export async function deactivate(): Promise<void> {
    await client?.stop();
}
