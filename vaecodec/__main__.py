from vaecodec.cli import main

main()
