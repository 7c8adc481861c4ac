"""Typical graphs known to writer and reader of the coded format (version 1), so that similar ones cost little."""

import zlib
from base64 import b85decode

# A quantised residual net, a perceptron and LeNet-5 as written by `coding.skeleton`, without numbers.
TYPICAL = zlib.decompress(
    b85decode(
        "c-qxg%Wo4$825PX-O1-XHYP!?Xo8hcHQHbvabDP)DhZS%PNL@F7KsCB6OXVJ$9DZ_C`hz-gqlN7Afa%911H3#t;8*t_5x~=azLO6^<SW>xU{n~"
        "V>j;F@g@*gU2DeU@3r&&Jil)~4543}p%tXw;1Hbx171g$G+RhAQDCr4)D7}TB9$rR!POf$eFo4N)ilo+j8r~xjm#uc#K^)?K!)kn$JOdN@@2Wf"
        "aZ@`?wN(r>54eo0iJZ@|ft=JDoi!bTwyeW|mH{o%El^w6*>vhFtrc7uBbFOQ{Ih`+tsNRyNH#^1mveC=Lq?@hiHhNfxpQ=GpJ{o-"
        "OBYD803GGldkz-h@GzWD)lT~aplKeDPG{-@Q)Hi+H35qA_ex{2SUGB)Eb^x;>%I!X{Y*by(pSW7qKMmIZ5&Pln&-"
        "PU9R_MUOj&_z1oxF}x{&c<YOrS*=l2Pt%D2!kX=G!IYl&Q3#5?~kq#UwKN_yVLK??K@vzWE*d#tei8x;=LJ95y9%112TBo)E}i4~T~EHP4A3*Z"
        "$(GO@&}*kF;b!Fs|Mv<u(I|G=k=qzidkfxBE2WOY?*0y&>GQn_&-MbGI)S2VyFBP?M_l{6Q|Dq{1_wJc`(JK|bzdaG-"
        "0)fqwGaKU%q|11O!77JTqp`HHMAN(ZDZ&i79nfdn2Go7!d*I<M@u2V;qxgzGMG8a{>Wid0SNAa8DZHKvF^2cw5AgRe1gcq;~Al9;&nZs|>8)5D"
        "+q8-LgRf(uh2Y)2-eeoE$*)8Wi0v}-HZ3o5cUNZ8_ad2WpN258GIzZ-sh4&D&QnRL=W-#sohuV%IbYFoMKvC<}+Fwi5Q@U-"
        "@B9$o%gfT@^p}|Nd(`(mAHqHKaUN>3EtIP2{ZXRDmY#v^J8TTuk+VVSq7l5fcCXzguL^?zw=7y@JLd&&KTT{_Q3t&Hy+yRsm1^e+P=cS*q$}iT"
        "km>H`s{{BYL@CKz}n=oo)4sBvBi<vpRz4RtrtTHBV+iLOlsrTz}k+6S>XVWfWo6TXDu#Y{AjD3Sveg<n%wyQ*0rutv?$4>sK)Umin-"
        "R9j~cD#r94`tT4I+so-X;o5k`D`Laa@C@6@qa+@mG{@ByjLW;84`25*Y+YJ!*whq`Gcv5yuF`fH&w7|dp}dsS4?GMuRZGEfizh%ZCBjbO-"
        "ofLmT7_V-Fy8)zw`W+e(TSd`X@iU(C40P>5i>!U2CLzDI)VyRkT+67ehM!BJ`^N^U%C!F?4tMv(UmH7eY)gM|_SdPf`DnmcI@<p3~u>@-"
        "6!Pi>bGiW3#uC#a4Iit;TPkE;W7%j^cIR#zmP&RIFt&GmqEgW|&p)Xszn4p6aqx?{#FedVgpRTh;q-0gjc9"
    )
)
