vim.filetype.add({ filename = { ["stead.kdl"] = "stead" }, pattern = { [".*%.stead%.kdl"] = "stead" } })
