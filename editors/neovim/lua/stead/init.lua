-- stead in Neovim (0.11 or newer): the language server, and commands that run `stead` in a terminal.
local M = {}

-- What `setup` may be given: the words of the program, and those before commands that need root.
M.options = { cmd = { "stead" }, root = { "sudo" } }

local function words(...)
  local all = {}
  for _, list in ipairs({ ... }) do
    vim.list_extend(all, list)
  end
  return all
end

-- The words of a command; `why` needs no root.
function M.command(name, arguments)
  local before = name == "why" and {} or M.options.root
  return words(before, M.options.cmd, { name }, arguments or {})
end

-- Runs a command in a terminal below, in the directory of the project.
function M.run(name, arguments)
  local folder = vim.fs.root(0, "stead.kdl") or vim.fn.getcwd()
  vim.cmd("botright 12new")
  vim.fn.jobstart(M.command(name, arguments), { term = true, cwd = folder })
end

function M.setup(options)
  M.options = vim.tbl_extend("force", M.options, options or {})
  vim.lsp.config("stead", {
    cmd = words(M.options.cmd, { "lsp" }),
    filetypes = { "stead" },
    root_markers = { "stead.kdl" },
  })
  vim.lsp.enable("stead")
  -- Neovim has a parser for KDL if nvim-treesitter installed one; our queries are for it.
  vim.treesitter.language.register("kdl", "stead")
  vim.api.nvim_create_user_command("Stead", function(call)
    local name = table.remove(call.fargs, 1)
    M.run(name, call.fargs)
  end, {
    nargs = "+",
    desc = "Run stead in a terminal",
    complete = function(lead, line)
      local before = vim.split(line, "%s+")
      if #before <= 2 then
        return vim.tbl_filter(function(one)
          return vim.startswith(one, lead)
        end, { "up", "down", "logs", "why", "plan", "watch", "ps" })
      end
      -- The names of the project, as in a shell.
      local found = vim.system(words(M.options.cmd, { "complete", "--" }, vim.list_slice(before, 2, #before - 1))):wait()
      return vim.tbl_filter(function(one)
        return one ~= "" and vim.startswith(one, lead)
      end, vim.split(found.stdout or "", "\n"))
    end,
  })
end

return M
