if exists("b:did_ftplugin")
  finish
endif
let b:did_ftplugin = 1
setlocal commentstring=//\ %s comments=:// expandtab shiftwidth=4 softtabstop=4 iskeyword+=-
if executable("stead")
  setlocal formatprg=stead\ fmt\ -
  " `:make` lists what `stead check` says.
  setlocal makeprg=stead\ check
  setlocal errorformat=%E\ \ ×\ %m,%W\ \ ⚠\ %m,%Z%*\\s╭─[%f:%l:%c],%-G%.%#
endif
let b:undo_ftplugin = "setlocal commentstring< comments< expandtab< shiftwidth< softtabstop< iskeyword< formatprg< makeprg< errorformat<"
