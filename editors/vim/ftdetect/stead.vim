autocmd BufNewFile,BufRead stead.kdl,*.stead.kdl set filetype=stead
