-- Runs in a headless Neovim; the first thing that is not as it should be ends it with an error.
vim.cmd("filetype plugin on")
vim.cmd.runtime("ftdetect/stead.lua")
local stead = require("stead")
local server = vim.g.here .. "/server"

stead.setup({ cmd = { server } })
assert(vim.deep_equal(vim.lsp.config.stead.cmd, { server, "lsp" }), vim.inspect(vim.lsp.config.stead.cmd))
assert(vim.deep_equal(stead.command("up"), { "sudo", server, "up" }))
assert(vim.deep_equal(stead.command("why", { "web" }), { server, "why", "web" }))

vim.cmd.edit(vim.g.folder .. "/stead.kdl")
assert(vim.bo.filetype == "stead", "the file type is " .. vim.bo.filetype)
assert(vim.bo.commentstring == "// %s" and vim.bo.shiftwidth == 4)

assert(vim.wait(10000, function()
  return #vim.diagnostic.get(0) > 0
end), "the server's findings are shown")
local found = vim.diagnostic.get(0)[1]
assert(found.message == "unknown image" and found.lnum == 2 and found.col == 23, vim.inspect(found))

assert(vim.deep_equal(vim.fn.getcompletion("Stead lo", "cmdline"), { "logs" }))
assert(vim.deep_equal(vim.fn.getcompletion("Stead logs wo", "cmdline"), { "worker" }))

-- Without a parser, the colours are those of editors/vim.
vim.cmd("syntax on")
vim.cmd.runtime("syntax/stead.vim")
local group = vim.fn.synIDattr(vim.fn.synID(1, 1, 1), "name")
assert(group == "steadNode", "the first word is " .. group)
for _, client in ipairs(vim.lsp.get_clients()) do
  client:stop(true)
end
