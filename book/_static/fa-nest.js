// Font Awesome replaces <i> by <svg>, which takes the play widget's button apart, and every
// slider linked to it stops. Nested, the <svg> goes inside the <i>.
window.FontAwesomeConfig = { autoReplaceSvg: "nest" };
