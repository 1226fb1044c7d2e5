// Before a reader has chosen a color mode, the theme knows none and says so on the console. It is the system's.
if (!document.documentElement.dataset.mode) document.documentElement.dataset.mode = "auto";
