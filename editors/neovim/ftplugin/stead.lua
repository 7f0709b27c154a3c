vim.bo.commentstring = "// %s"
vim.bo.expandtab = true
vim.bo.shiftwidth = 4
-- Colours of the parser if there is one, else those of editors/vim.
if not pcall(vim.treesitter.start, 0, "kdl") then
  vim.cmd.runtime("syntax/stead.vim")
end
